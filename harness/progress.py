"""Progress of a plan: a bar with the time left for a person, in a terminal or a notebook; plain lines otherwise."""

from __future__ import annotations

import html
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from typing import Protocol

    class Work(Protocol):
        """A run, or a search for a reference."""

        @property
        def words(self) -> str: ...


JUDGE = "judge"  # the phase
# Set for what a notebook's cell runs: that looks like a terminal, but no cursor goes back in it.
KERNEL = "JPY_PARENT_PID"
QUIET = 30.0  # seconds of judging after which a line says so


class Progress:
    """Told of each run, or search, as it begins and ends (``started``, ``finished``) and of what it is at (``phase``,
    ``said``).

    ``done`` counts the ended ones. This one says nothing; those below do. A context manager: leaving it takes a bar
    away.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._since = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be taken away."""

    def started(self, work: Work) -> None:
        """A run begins."""

    def phase(self, work: Work, phase: str) -> None:
        """What a run is at, now and then."""

    def said(self, work: Work, words: str) -> None:
        """How far something is that takes long, now and then."""

    def finished(self, work: Work, status: str) -> None:
        """A run has ended."""
        self.done += 1

    @property
    def _left(self) -> float:
        """Seconds until the end, at the rate so far."""
        return (time.monotonic() - self._since) / max(self.done, 1) * (self.total - self.done)


class Lines(Progress):
    """A line for each run that has ended, and for one that has been judged for a while."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._slow: dict[str, float] = {}

    def phase(self, work: Work, phase: str) -> None:
        """What a run is at: judging that takes long is said."""
        if phase != JUDGE:
            self._slow.pop(work.words, None)
        else:
            self.said(work, "judging")

    def said(self, work: Work, words: str) -> None:
        """How far something is that takes long."""
        name, now = work.words, time.monotonic()
        if now - self._slow.setdefault(name, now) >= QUIET:
            self._slow[name] = now
            print(f"[{self.done}/{self.total}] {name}: {words}", file=sys.stderr, flush=True)

    def finished(self, work: Work, status: str) -> None:
        """A run has ended."""
        super().finished(work, status)
        line = f"[{self.done}/{self.total}] {work.words}: {status} ({self._left:.0f} s left)"
        print(line, file=sys.stderr, flush=True)


class Terminal(Progress):
    """A bar, and a line for each run that has not ended well."""

    def __init__(self, total: int, console: Console) -> None:
        super().__init__(total)
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, work: Work) -> None:
        """A run begins."""
        self._bar.update(self._task, description=f"{work.words}"[:70])

    def phase(self, work: Work, phase: str) -> None:
        """What a run is at: judging is shown."""
        self.said(work, "judging" if phase == JUDGE else "")

    def said(self, work: Work, words: str) -> None:
        """How far something is."""
        words = f" ({words})" if words else ""
        self._bar.update(self._task, description=f"{work.words[: 70 - len(words)]}{words}")

    def finished(self, work: Work, status: str) -> None:
        """A run has ended."""
        super().finished(work, status)
        rate = self.done / (time.monotonic() - self._since)
        self._bar.update(self._task, advance=1, rate=f"{rate:.1f} runs/s")
        if status != "done":
            self._bar.console.print(f"{status}: {work.words}")


class Notebook(Progress):
    """A bar below the cell; it stays, with what did not end well."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._troubles: list[str] = []
        self._cell: Any = None
        self._last = ""

    def started(self, work: Work) -> None:
        """A run begins."""
        self._show(work.words)

    def phase(self, work: Work, phase: str) -> None:
        """What a run is at: judging is shown."""
        self.said(work, "judging" if phase == JUDGE else "")

    def said(self, work: Work, words: str) -> None:
        """How far something is."""
        line = f"{work.words} ({words})" if words else work.words
        if line != self._last:
            self._last = line
            self._show(line)

    def finished(self, work: Work, status: str) -> None:
        """A run has ended."""
        super().finished(work, status)
        if status != "done":
            self._troubles.append(f"{status}: {work.words}")
        self._show(f"{self._left:.0f} s left")

    def _show(self, words: str) -> None:
        from IPython.display import display

        lines = [f"{self.done} of {self.total} runs; {words}", *self._troubles]
        bar = f'<progress value="{self.done}" max="{self.total}" style="width:20em"></progress> '
        shown = {"text/plain": "\n".join(lines), "text/html": bar + "<br>".join(map(html.escape, lines))}
        if self._cell is None:
            self._cell = display(shown, raw=True, display_id=True)
        else:
            self._cell.update(shown, raw=True)


def shown(total: int, show: bool = True) -> Progress:
    """The progress for where this process is."""
    if not show:
        return Progress(total)
    if in_notebook():
        return Notebook(total)
    console = Console(stderr=True)
    watched = console.is_terminal and KERNEL not in os.environ
    return Terminal(total, console) if watched and total else Lines(total)


def in_notebook() -> bool:
    """Whether a kernel runs this process, so that what is displayed goes to a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
