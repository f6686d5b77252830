"""Runs in this process, on request: nothing is timed, and a crash is everybody's."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bilevelbench.core.registry import SOLVERS
from bilevelbench.measure.env import environment, moment
from bilevelbench.store.claims import Claims
from bilevelbench.store.files import place
from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import End

from .job import Job, Named, Order
from .names import look_up
from .worker import execute


class Inside:
    """Looks names up and makes runs, all in this process. Used like ``Elsewhere``."""

    device = "cpu"

    def solvers(self) -> list[str]:
        """The names of all solvers, those of other packages included."""
        return SOLVERS.names()

    def place(self) -> str:
        """Of this machine, see ``store.files.place``."""
        return place(environment(self.device))

    def __call__(self, kind: str, text: str, seed: int) -> Named:
        """What a text names."""
        return look_up(kind, text, seed)

    def make(self, out: Path, jobs: list[Job], bar: Any) -> None:
        """Make runs, one after the other; ``bar`` is told. What another command is making is left to it."""
        threads = torch.get_num_threads()
        try:
            with Claims(out) as claims, _interrupts() as interrupted:
                for job in jobs:
                    claim = claims.take(job.key.stem)
                    if claim is None:
                        continue
                    bar.started(job)
                    part = replace(job, path=claim.part(job.name))
                    status = execute(part, Order([part]))
                    if interrupted:  # which the run took for an error of the solver's
                        part.path.unlink(missing_ok=True)
                        raise KeyboardInterrupt
                    with Journal(part.path) as journal:
                        journal.end(End(after=moment()))
                    claim.publish(job.name, job.replaced())
                    claim.release()
                    bar.finished(job, status)
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Takes note of interrupts while it is open; only the main thread is told of any."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
