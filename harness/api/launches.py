"""Two versions launched side by side until it is known how they compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.run.beside import Lost, Pair, within
from bilevelbench.run.revisions import Version
from bilevelbench.stats.versions import LEAST, MOST, OPEN, Cell

BLOCKS = 12  # of a launch, for each solver on each problem
Say = Callable[[str], None]


def launched(
    base: Version, head: Version, wanted: list[str] | None, problems: list[str], say: Say, *, device: str,
    threads: int, seconds: float, false_alarms: float,
) -> tuple[list[Cell], list[str]]:  # fmt: skip
    """Every solver on every problem, in launches until each is decided or its time is over; what is to be said."""
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
    return cells, notes


def _open(cells: list[Cell], false_alarms: float) -> list[Cell]:
    """Those of which it is not known whether they are slower or faster."""
    return [cell for cell in cells if not cell.trouble and cell.speed(false_alarms / len(cells)) == OPEN]


def _solvers(pair: Pair, wanted: list[str] | None) -> tuple[list[str], list[str]]:
    """The solvers to be compared, and what is to be said of the versions."""
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
    if not names[0] & names[1]:
        raise RequestError(f"{pair.base.version.label} and {pair.head.version.label} have no solver in common")
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
