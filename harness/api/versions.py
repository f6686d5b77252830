"""``bilevelbench.compare``: two versions of solvers side by side, and which commit made the difference."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError, Unsupported

from . import arguments

if TYPE_CHECKING:
    import pandas as pd

    from bilevelbench.run.beside import Pair
    from bilevelbench.run.revisions import Version
    from bilevelbench.stats.versions import Cell

PROBLEMS = ("quadratic",)
BLOCKS = 12  # of a launch, for each solver on each problem
FALSE_ALARMS = 0.001
Say = Callable[[str], None]


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
            found = _measured(*versions, wanted, chosen, say, **options)
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


def _measured(
    base: Version, head: Version, wanted: list[str] | None, problems: list[str], say: Say, *, device: str,
    threads: int, seconds: float, false_alarms: float,
) -> Versions:  # fmt: skip
    from bilevelbench.run.beside import Lost, Pair
    from bilevelbench.stats.versions import LEAST, MOST, Cell

    cells: list[Cell] = []
    notes: list[str] = []
    begin, launches = time.monotonic(), 0
    while launches < MOST:
        at: Cell | None = None
        try:
            with Pair(base, head, threads, launches) as pair:
                if not cells:
                    names, notes = _solvers(pair, wanted)
                    cells = [Cell(solver, problem) for problem in problems for solver in names]
                todo = _open(cells, false_alarms)
                for number, at in enumerate(todo):
                    say(f"launch {launches + 1}: {at.name}, {number + 1} of {len(todo)}")
                    _one(pair, at, device)
        except Lost as error:
            if at is None:  # not a solver's fault: the version cannot be run
                raise RequestError(str(error)) from None
            at.trouble, at.broken = str(error), str(error).startswith(f"{head.label}:")
            continue
        launches += 1
        over = time.monotonic() - begin > seconds * len(cells)
        if launches >= LEAST and (over or not _open(cells, false_alarms)):
            break
    return Versions(base.label, head.label, cells, false_alarms, notes)


def _open(cells: list[Cell], false_alarms: float) -> list[Cell]:
    """Those of which it is not known whether they are slower or faster."""
    from bilevelbench.stats.versions import OPEN

    return [cell for cell in cells if not cell.trouble and cell.speed(false_alarms / len(cells)) == OPEN]


def _solvers(pair: Pair, wanted: list[str] | None) -> tuple[list[str], list[str]]:
    """The solvers to be compared, and what is to be said of the versions."""
    from bilevelbench.run.beside import within

    about = pair.about
    for one, told in zip((pair.base, pair.head), about, strict=True):
        if one.version.home and not within(told["file"], one.version.home):
            raise RequestError(
                f"{one.version.label} is a version of bilevelbench, but {told['file']} would be measured in its place: "
                "its folders are not laid out as this version knows them"
            )
    notes = [
        f"{name} is {about[0][name]} under base and {about[1][name]} under head"
        for name in ("torch", "python")
        if about[0][name] != about[1][name]
    ]
    if pair.base.version.solver or pair.head.version.solver:
        if wanted:
            raise RequestError("two files are compared by their solvers; leave out the solvers")
        return [f"{Path(pair.head.version.solver or pair.base.version.solver).name}"], notes
    if wanted:
        return wanted, notes
    names = [set(told) for told in pair.both("solvers")]
    for side, only in (("base", names[0] - names[1]), ("head", names[1] - names[0])):
        if only:
            notes.append(f"only {side} has {', '.join(sorted(only))}")
    return sorted(names[0] & names[1]), notes


def _one(pair: Pair, cell: Cell, device: str) -> None:
    """A launch's blocks of one solver on one problem, and, the first time, what is exact."""
    texts = pair.base.version.solver or cell.solver, pair.head.version.solver or cell.solver
    try:
        pair.open(cell.name, cell.problem, texts, device)
        if not cell.launches:
            cell.base, cell.head = pair.both("exact", cell=cell.name)
        cell.launches.append([pair.log_ratio(cell.name) for _ in range(BLOCKS)])
    except Unsupported as reason:
        cell.trouble = f"not measured: {reason}"
    except RequestError as error:
        cell.trouble, cell.broken = str(error), str(error).startswith(f"{pair.head.version.label}:")
        if not cell.broken:
            raise


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
            one = _measured(*versions, [cell.solver], [cell.problem], say, **options)
        first, last = (first, middle) if one.worse else (middle + 1, last)
    return git("log", "-1", "--format=%h %s (%an, %as)", commits[first]).decode().strip()
