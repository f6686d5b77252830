"""From suites to jobs: everything that can be known to be wrong is said before anything is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.resolve import build_problem
from bilevelbench.measure.env import source_digest
from bilevelbench.store.journal import read
from bilevelbench.store.schema import CUT, RunKey

from .job import Job, full_spec
from .suite import Block, Suite


def check_device(device: str) -> None:
    """Raise a ``RequestError`` where the device is not there."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise RequestError(f"there is no device {device!r}; choose from cpu, cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: this machine has no CUDA device; use --device cpu")


def expand(suite: Suite, out: Path, command: str = "", timeout: float | None = None) -> list[Job]:
    """All jobs of a suite, in an order that interleaves the solvers. Wrong requests raise a ``RequestError``.

    A run asked for twice is made once.
    """
    jobs: dict[str, Job] = {}
    for block in suite.blocks:
        check_device(block.device)
        for job in _jobs(block, suite.name, out, command, timeout):
            jobs.setdefault(job.key.digest, job)
    return list(jobs.values())


def _jobs(block: Block, suite: str, out: Path, command: str, timeout: float | None) -> Iterator[Job]:
    solvers = [(given, *full_spec(given, "solver")) for given in block.solvers]
    for problem in block.problems:
        spec, version, file = full_spec(problem, "problem")
        with contextlib.suppress(Unsupported):  # a row will say so
            build_problem(problem, Draw(block.seeds[0]))  # refuses impossible values
        for seed in block.seeds:
            for given, solver, _, solver_file in solvers:
                key = RunKey(
                    str(spec), version, str(solver), seed, block.device, block.dtype, block.engine, block.threads,
                    block.steps, block.seconds, block.calls, block.iterates, source_digest(file, solver_file),
                )  # fmt: skip
                yield Job(key, problem, given, out / key.filename, suite, command, timeout)


def unfinished(jobs: list[Job]) -> list[Job]:
    """The jobs whose run has no final status yet.

    A run that was unsupported is tried again (data may have come), and so is one that ran out of time when it is now
    given more of it.
    """
    return [job for job in jobs if not _finished(job)]


def _finished(job: Job) -> bool:
    if not job.path.exists():
        return False
    record = read(job.path)
    if record.header is None or record.status in (CUT, "unsupported"):
        return False
    earlier = record.header.get("timeout")
    more = earlier is not None and (job.timeout is None or job.timeout > earlier)
    return not (record.status == "timeout" and more)
