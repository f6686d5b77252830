"""Progress of a plan: a bar with rate and time left for a person, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from .run.job import Job


QUIET = 30.0  # seconds of judging after which a line says so


class Progress:
    """Told of each run as it begins and ends (``started``, ``finished``) and of what it is at (``phase``).

    ``done`` counts the ended ones.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._since, self._judging = time.monotonic(), dict[str, float]()
        console = Console(stderr=True)
        self._bar: Any = None
        if console.is_terminal and total:
            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def started(self, job: Job) -> None:
        """A run begins."""
        if self._bar:
            self._bar.update(self._task, description=f"{_name(job)}"[:70])

    def phase(self, job: Job, phase: str) -> None:
        """What a run is at: judging is shown, at once on a bar and after a while in lines."""
        name, now = _name(job), time.monotonic()
        if self._bar:
            words = " (judging)" if phase == "judge" else ""
            self._bar.update(self._task, description=f"{name[: 70 - len(words)]}{words}")
        elif phase != "judge":
            self._judging.pop(name, None)
        elif now - self._judging.setdefault(name, now) >= QUIET:
            self._judging[name] = now
            print(f"[{self.done}/{self.total}] {name}: judging", file=sys.stderr, flush=True)

    def finished(self, job: Job, status: str) -> None:
        """A run has ended."""
        self.done += 1
        elapsed = time.monotonic() - self._since
        if self._bar:
            self._bar.update(self._task, advance=1, rate=f"{self.done / elapsed:.1f} runs/s")
            if status != "done":
                self._bar.console.print(f"{status}: {_name(job)}")
        else:
            left = elapsed / self.done * (self.total - self.done)
            print(f"[{self.done}/{self.total}] {_name(job)}: {status} ({left:.0f} s left)", file=sys.stderr, flush=True)


def _name(job: Job) -> str:
    return f"{job.problem} {job.solver} seed {job.key.seed}"
