"""Where runs are made, from what was asked for: a name or an address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError

from ..job import Job
from . import plan
from .executor import Children, Executor
from .hand import Hand

NAMES = ("here", "dask", "slurm", "folder")


def check(on: str | None, slurm: Mapping[str, str], here: bool, inside: bool) -> None:
    """Raise a ``RequestError`` for what does not go together, or is no place at all."""
    if slurm and on != "slurm":
        raise RequestError(f"slurm={dict(slurm)!r} is for on slurm, and on is {on!r}; choose on slurm")
    if on is None:
        return
    if on not in NAMES and "://" not in on:
        raise RequestError(f"on {on!r} is not valid; it takes {', '.join(NAMES)} or the address of a Dask scheduler")
    for name, given in (("here", here), ("in_process", inside)):
        if given:
            raise RequestError(f"{name} is about this machine alone, and on {on} about others; leave one of them out")


def make(
    on: str, out: Path, jobs: list[Job], bar: Any, workers: int, slurm: Mapping[str, str], patience: float
) -> None:
    """Have runs made where it was asked for; ``bar`` is told."""
    if on == "folder":
        plan.write(out, jobs)
        return
    if on == "slurm":
        from .slurm import Slurm

        Slurm(workers, slurm, patience).make(out, jobs, bar.started, bar.finished)
        return
    if any(job.key.engine == "batched" for job in jobs):
        raise RequestError(f"on {on} every run has a task of its own, and batched is all seeds in one; leave one out")
    if jobs:
        Hand(out, _executor(on, workers, patience), bar.started, bar.finished).run(jobs)


def _executor(on: str, workers: int, patience: float) -> Executor:
    if on == "here":
        return Children(workers, patience)
    from .dask import Dask

    return Dask(on, workers, patience)
