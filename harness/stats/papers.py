"""Claims of papers as data: what was published, the runs that try it, and what counts as reproduced.

``suites/papers/NAME.toml`` holds the experiments of one paper, a ``[[claim]]`` each. A claim names its problems and
solvers once; ``[[claim.run]]`` are blocks as a suite has them, each for one scale or both; ``cells`` are the published
figures, each with the measured one that it is held against.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import suggest

SCALES = ("quick", "published")
FOLDER = files("bilevelbench.suites") / "papers"


@dataclass(frozen=True)
class Cell:
    """A published figure of one solver on one problem, and the band in which a measured one reproduces it.

    figure: a column of the looks (``error``), a coordinate of the iterates (``x[0]``, ``y[1]``; the run keeps them by
    ``iterates``), or ``seconds per step`` (CPU). Several with several published values: the largest deviation is what
    is measured. at: ``end``; a step; ``least`` or ``most`` of all looks; ``swing``, most less least of the last half
    of the steps; ``least NAME`` or ``most NAME``, the look at which another column is least or most (as in a choice by
    validation loss). over, minus: another solver of the claim, by whose figure on the same seed this one is divided or
    diminished. within: the band is published +- within (with several figures 0 to within); below, above: its ends. A
    cell without a band is shown and not judged. said: the published value in words, where it is no number.
    """

    solver: str
    problem: str
    published: float | tuple[float, ...] | None
    spread: float | None
    figure: str | tuple[str, ...]
    at: str | int
    within: float | None
    below: float | None
    above: float | None
    over: str
    minus: str
    said: str
    scales: tuple[str, ...]

    @property
    def band(self) -> tuple[float, float] | None:
        """The least and the largest figure that reproduces what was published; None where nothing is held against."""
        if self.within is not None:
            if isinstance(self.published, float):
                return self.published - self.within, self.published + self.within
            return -math.inf, self.within
        if self.below is None and self.above is None:
            return None
        return (-math.inf if self.above is None else self.above), (math.inf if self.below is None else self.below)


@dataclass(frozen=True)
class Runs:
    """A block of runs of one scale or both: what ``run.suite.Block`` takes, with specs in place of names."""

    scales: tuple[str, ...]
    block: dict[str, Any]

    @property
    def budget(self) -> str:
        """As ``store.summary`` writes it."""
        units = ("steps", "seconds", "calls", "rows")
        return ", ".join(f"{self.block[unit]} {unit}" for unit in units if self.block.get(unit))


@dataclass(frozen=True)
class Claim:
    """An experiment of a paper.

    reach: why it cannot be tried, '' where it can. changed: what differs from the paper's protocol. stands_for: the
    claim in whose place this one is tried on other data; it is never called reproduced itself. axis: what its figure
    is drawn over: ``step``, or a knob of the solvers such as ``T``; drawn: the column of the looks that it shows, the
    first cell's where there is none. heads: solvers whose cells stand in the claim's row of a page, the others in its
    details; all where there are few.
    """

    id: str
    paper: str
    where: str
    says: str
    problems: Mapping[str, str] = field(default_factory=dict)
    solvers: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Runs, ...] = ()
    cells: tuple[Cell, ...] = ()
    changed: str = ""
    reach: str = ""
    stands_for: str = ""
    axis: str = "step"
    drawn: str = ""
    heads: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """The column of the looks that is drawn; '' where there is none."""
        return self.drawn or next((cell.figure for cell in self.cells if isinstance(cell.figure, str)), "")

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales that it has runs for."""
        return tuple(scale for scale in SCALES if any(scale in runs.scales for runs in self.runs))

    def blocks(self, scale: str) -> list[dict[str, Any]]:
        """Its blocks at a scale, as a suite's."""
        return [runs.block for runs in self.runs if scale in runs.scales]


@dataclass(frozen=True)
class Paper:
    """A paper: its short name, how it is cited, and its experiments."""

    name: str
    title: str
    cite: str
    claims: tuple[Claim, ...]


def paper_names() -> list[str]:
    """The papers that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in FOLDER.iterdir() if path.name.endswith(".toml"))


@functools.cache
def paper(name: str) -> Paper:
    """A paper by its short name; ``RequestError`` where there is none."""
    if name not in paper_names():
        raise RequestError(f"there is no paper {name!r}; {suggest(name, paper_names())}")
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Paper(name, content["title"], content["cite"], tuple(_claim(name, table) for table in content["claim"]))


def papers(only: str | None = None) -> list[Paper]:
    """All papers, or the one that is named."""
    return [paper(name) for name in ([only] if only else paper_names())]


def claims(only: str | None = None, ids: Sequence[str] = ()) -> list[Claim]:
    """The claims of all papers or of one, or those of them that are named, in the order of the papers."""
    known = {claim.id: claim for each in papers(only) for claim in each.claims}
    for name in ids:
        if name not in known:
            of = f" of {only}" if only else ""
            raise RequestError(f"there is no claim {name!r}{of}; {suggest(name, known)}")
    return [claim for name, claim in known.items() if not ids or name in ids]


def _claim(paper: str, table: dict[str, Any]) -> Claim:
    """A claim of its table; a ``TypeError`` or ``KeyError`` where a shipped file is wrong."""
    table = dict(table)
    runs, cells = table.pop("run", []), table.pop("cells", [])
    usual = {name: table.pop(name) for name in ("figure", "at") if name in table}
    problems, solvers = table.get("problems", {}), table.get("solvers", {})
    return Claim(
        paper=paper,
        runs=tuple(_runs(each, problems, solvers) for each in runs),
        cells=tuple(_cell(usual | each, problems, solvers) for each in cells),
        **table,
    )


def _runs(table: dict[str, Any], problems: dict[str, str], solvers: dict[str, str]) -> Runs:
    block = dict(table)
    scales = _scales(block.pop("scale", list(SCALES)))
    block["problems"] = [problems[name] for name in block.get("problems", problems)]
    block["solvers"] = [solvers[name] for name in block.get("solvers", solvers)]
    return Runs(scales, block)


def _cell(table: dict[str, Any], problems: dict[str, str], solvers: dict[str, str]) -> Cell:
    table = dict(table)
    table.setdefault("problem", next(iter(problems)))
    for name in ("solver", "over", "minus"):
        if table.get(name):
            solvers[table[name]]
    problems[table["problem"]]
    scales = _scales(table.pop("scale", list(SCALES)))
    published = table.pop("published", None)
    if isinstance(published, list):
        published = tuple(map(float, published))
    elif published is not None:
        published = float(published)
    if isinstance(table["figure"], list):
        table["figure"] = tuple(table["figure"])
    known = {each.name: None for each in fields(Cell)} | {"at": "end", "over": "", "minus": "", "said": ""}
    return Cell(**known | table | {"published": published, "scales": scales})


def _scales(given: str | list[str]) -> tuple[str, ...]:
    scales = (given,) if isinstance(given, str) else tuple(given)
    if not set(scales) <= set(SCALES):
        raise KeyError(f"a scale of {scales} is none of {SCALES}")
    return scales
