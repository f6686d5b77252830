"""``bilevelbench.compare``: two versions of solvers side by side, and which commit made the difference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError

from . import arguments

if TYPE_CHECKING:
    import pandas as pd

    from bilevelbench.run.revisions import Version
    from bilevelbench.stats.versions import Cell

    from .launches import Say

PROBLEMS = ("quadratic",)
FALSE_ALARMS = 0.001


class Versions:
    """Two versions, compared: a row for each solver on each problem.

    Attributes
    ----------
    cells : list of stats.versions.Cell
        What was measured.
    worse : bool
        Whether anything is slower, asks or holds more, or is broken.
    commit : str
        The commit that is to blame, where one was asked for and found; with its first line.
    """

    def __init__(self, base: str, head: str, cells: list[Cell], false_alarms: float, notes: Sequence[str] = ()) -> None:
        self.base, self.head, self.cells, self.notes = base, head, cells, list(notes)
        self.false_alarms, self.alpha, self.commit = false_alarms, false_alarms / max(1, len(cells)), ""

    @property
    def worse(self) -> bool:
        """Whether head is worse than base anywhere."""
        return any(cell.worse(self.alpha) for cell in self.cells)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each solver and problem."""
        from bilevelbench.report.compare import table

        return table(self.cells, self.alpha)

    def markdown(self) -> str:
        """The table for a pull request."""
        from bilevelbench.report.compare import markdown

        return markdown(self)

    def report(self, path: Path | str) -> Path:
        """Write one page of HTML, that asks for nothing else."""
        from bilevelbench.report.compare import write

        return write(self, Path(path))

    def __repr__(self) -> str:
        from bilevelbench.report.compare import plain

        return plain(self)


def compare(
    base: str | Path,
    head: str | Path = ".",
    solvers: str | Iterable[str] | None = None,
    problems: str | Iterable[str] | None = None,
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 180.0,
    false_alarms: float = FALSE_ALARMS,
    same_environment: bool = False,
    bisect: bool = False,
    progress: bool = True,
) -> Versions:
    """Say of every solver on every problem whether ``head`` is slower than ``base``, takes another path, or costs more.

    Both run side by side in a process each, by turns and on one core, in CPU seconds (a GPU's by the wall). It stops
    when it knows: that a solver is slower or faster by more than 5 %, or as fast within 10 %.

    Parameters
    ----------
    base, head
        Versions: a git revision, a folder with a checkout, a wheel, an environment, or a file that defines a solver.
    solvers
        Texts as for ``run``; a file is looked for in each version. Default: all that both have.
    problems
        Texts; default ``quadratic``.
    device, threads
        Where, and by how many threads.
    seconds
        Wall seconds for each solver, after which what is not decided stays so.
    false_alarms
        The probability that anything of equal speed is called slower or faster in one such call, all together.
    same_environment
        Measure revisions with the packages that are here, whatever their lock files name.
    bisect
        Name the first commit between two revisions after which the worst of it is there.
    progress
        Show on a terminal what is being done.

    Raises
    ------
    RequestError
        A version, solver or problem that is not there; a checked-out commit with changes that are not committed.
    """
    texts, device = (str(base), str(head)), str(device)
    wanted = None if solvers is None else [str(one) for _, one in arguments.named("solvers", solvers)]
    chosen = [str(one) for _, one in arguments.named("problems", problems)] if problems is not None else list(PROBLEMS)
    _check(seconds, false_alarms, chosen, wanted)
    options: dict[str, Any] = {"device": device, "threads": threads, "seconds": seconds, "false_alarms": false_alarms}
    if bisect:
        from bilevelbench.run.revisions import between

        commits = between(*texts)
    with _told(arguments.flag("progress", progress)) as say:
        with _laid_out(texts, same_environment) as versions:
            found = _compared(versions, wanted, chosen, say, options)
        if bisect:
            found.commit = _culprit(found, commits, same_environment, say, options)
    return found


def _check(seconds: float, false_alarms: float, problems: list[str], solvers: list[str] | None) -> None:
    if not seconds > 0:
        raise RequestError(f"seconds={seconds!r} is not valid; it takes a number above 0")
    if not 0 < false_alarms < 1:
        raise RequestError(
            f"false_alarms={false_alarms!r} is not valid; it takes a probability, such as {FALSE_ALARMS}"
        )
    for what, names in (("problems", problems), ("solvers", solvers)):
        if names == []:
            raise RequestError(f"{what} is empty; name at least one")


@contextmanager
def _told(shown: bool) -> Iterator[Say]:
    """A line on a terminal that says what is being done; nothing where nobody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda words: None
        return
    with console.status("starting both versions") as status:
        yield status.update


@contextmanager
def _laid_out(texts: tuple[str, str], same: bool) -> Iterator[tuple[Version, Version]]:
    from bilevelbench.run.revisions import version

    with tempfile.TemporaryDirectory(prefix="bilevelbench-") as scratch:
        base, head = Path(scratch) / "base", Path(scratch) / "head"
        for place in (base, head):
            place.mkdir()
        yield version(texts[0], base, same), version(texts[1], head, same)


def _compared(
    versions: tuple[Version, Version], solvers: list[str] | None, problems: list[str], say: Say, options: dict[str, Any]
) -> Versions:
    from .launches import launched

    cells, notes = launched(*versions, solvers, problems, say, **options)
    return Versions(versions[0].label, versions[1].label, cells, options["false_alarms"], notes)


def _culprit(found: Versions, commits: list[str], same: bool, say: Say, options: dict[str, Any]) -> str:
    """The first commit with which the worst cell is worse than under base: a search by halves."""
    from bilevelbench.run.revisions import git

    worse = [cell for cell in found.cells if cell.worse(found.alpha)]
    if not worse:
        return ""
    cell = max(worse, key=lambda cell: cell.interval(found.alpha).median if cell.launches else float("inf"))
    first, last = 0, len(commits) - 1
    while first < last:
        middle = (first + last) // 2
        with _laid_out((found.base, commits[middle]), same) as versions:
            one = _compared(versions, [cell.solver], [cell.problem], say, options)
        first, last = (first, middle) if one.worse else (middle + 1, last)
    return git("log", "-1", "--format=%h %s (%an, %as)", commits[first]).decode().strip()
