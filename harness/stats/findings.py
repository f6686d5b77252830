"""What runs say of claims: for each cell the figure of every seed, its interval, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bilevelbench.core.spec import parse, parse_seeds
from bilevelbench.store.frame import Results
from bilevelbench.store.schema import CUT

from .papers import Cell, Claim
from .read_off import figure
from .rulings import (
    FAILS,
    HOLDS,
    MISSING,
    NOT_RUN,
    OPEN,
    OUT,
    PART,
    SHOWN,
    UNSUPPORTED,
    VERDICTS,
    Interval,
    interval,
    ruling,
    verdict,
)


@dataclass(frozen=True)
class Measured:
    """A cell as it was measured: the figure of each seed, the interval of their mean, and the ruling.

    note: why the figure is not to be had, or of how many seeds it is not.
    """

    cell: Cell
    values: tuple[float, ...]
    found: Interval
    ruling: str
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """A claim at one scale: its cells, the verdict and what it rests on.

    cpu_seconds: of the processes that made its runs, judging and guards included; NaN where no run has been made.
    """

    claim: Claim
    scale: str
    cells: tuple[Measured, ...]
    verdict: str
    why: str
    cpu_seconds: float
    runs: int

    @property
    def measured(self) -> bool:
        """Whether there is a figure with an interval."""
        return any(math.isfinite(one.found.low) for one in self.cells)


def findings(data: Results | None, claims: Iterable[Claim], scale: str) -> list[Finding]:
    """What the runs of a folder say of claims at a scale. ``data``: None where there is no run yet."""
    table = None if data is None else spelled(data.runs)
    return [_finding(data, table, claim, scale) for claim in claims]


def best(data: Results | None, claims: Iterable[Claim]) -> list[Finding]:
    """Each claim at the scale that says more of it: the published one where that has been run."""
    every = list(claims)
    pairs = zip(findings(data, every, "published"), findings(data, every, "quick"), strict=True)
    unsaid, settled = (NOT_RUN, PART, OUT), VERDICTS["quick"][:2]
    return [
        small
        if (full.verdict in unsaid and small.verdict in settled) or (full.verdict == NOT_RUN and small.runs)
        else full
        for full, small in pairs
    ]


def spelled(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the texts that asked for them in the form in which they are compared."""
    return runs.assign(problem_text=runs["asked_problem"].map(plain), solver_text=runs["asked_solver"].map(plain))


def plain(text: str) -> str:
    """A spec as it is compared: ``bome(lr=0.10)`` is ``bome(lr=0.1)``."""
    try:
        return str(parse(text))
    except Exception:  # of a stranger's record
        return text


def _finding(data: Results | None, table: pd.DataFrame | None, claim: Claim, scale: str) -> Finding:
    if claim.reach:
        return Finding(claim, scale, _untried(claim, scale, claim.reach), OUT, claim.reach, math.nan, 0)
    if scale not in claim.scales:
        return Finding(claim, scale, _untried(claim, scale, ""), NOT_RUN, f"it has no {scale} scale", math.nan, 0)
    if data is None or table is None or not len(own := runs_of(table, claim, scale)):
        return Finding(claim, scale, _untried(claim, scale, ""), NOT_RUN, "", math.nan, 0)
    cells = [cell for cell in claim.cells if scale in cell.scales]
    judged = sum(cell.band is not None for cell in cells)
    found = tuple(_measured(data, own, claim, scale, cell, judged) for cell in cells)
    said = verdict([one.ruling for one in found], scale, bool(claim.stands_for))
    cpu = float(own["whole_cpu_seconds"].astype(float).sum(min_count=1))
    return Finding(claim, scale, found, said, _why(found), cpu, len(own))


def _untried(claim: Claim, scale: str, reason: str) -> tuple[Measured, ...]:
    nothing = Interval(math.nan, math.nan, math.nan)
    kind = UNSUPPORTED if reason else MISSING
    return tuple(
        Measured(cell, (), nothing, kind, reason)
        for cell in claim.cells
        if scale in cell.scales or scale not in claim.scales
    )


def runs_of(table: pd.DataFrame, claim: Claim, scale: str) -> pd.DataFrame:
    """The runs of a claim at a scale: those whose texts, budget, dtype and seed its blocks ask for, and that ended."""
    chosen = pd.Series(False, index=table.index)
    for runs in claim.runs:
        if scale in runs.scales:
            seeds = parse_seeds(str(runs.block.get("seeds", "0")))
            chosen |= (
                table["problem_text"].isin({plain(text) for text in runs.block["problems"]})
                & table["solver_text"].isin({plain(text) for text in runs.block["solvers"]})
                & (table["budget"] == runs.budget)
                & (table["dtype"] == runs.block.get("dtype", "float64"))
                & table["seed"].isin(seeds)
            )
    return table[chosen & ~table["status"].isin((CUT, "lost"))]


def _measured(data: Results, own: pd.DataFrame, claim: Claim, scale: str, cell: Cell, among: int) -> Measured:
    values, note, failed = _values(data, own, claim, cell, cell.solver)
    other = cell.over or cell.minus
    if values and other:
        divisor, more, also = _values(data, own, claim, cell, other)
        note, failed = note or more, failed or also
        both = sorted(values.keys() & divisor.keys())
        values = {s: values[s] / divisor[s] if cell.over else values[s] - divisor[s] for s in both}
    figures = tuple(values[seed] for seed in sorted(values))
    if not figures:
        kind = UNSUPPORTED if note and not failed else OPEN if failed else MISSING
        return Measured(cell, (), Interval(math.nan, math.nan, math.nan), kind, note)
    fixed = not own.loc[those(own, claim, cell.problem, cell.solver), "seeded"].astype(bool).any()
    found = interval(figures, fixed)
    made = set(own.loc[those(own, claim, cell.problem, cell.solver), "seed"])
    if lacking := _asked(claim, scale, cell) - made:
        return Measured(cell, figures, found, MISSING, f"{len(lacking)} seeds have not been run")
    if cell.band is None:
        return Measured(cell, figures, found, SHOWN, note)
    return Measured(cell, figures, found, OPEN if failed else ruling(figures, cell.band, fixed, among), note)


def _asked(claim: Claim, scale: str, cell: Cell) -> set[int]:
    """The seeds with which a claim tries a cell."""
    problem, solver = claim.problems[cell.problem], claim.solvers[cell.solver]
    blocks = [block for block in claim.blocks(scale) if problem in block["problems"] and solver in block["solvers"]]
    return {seed for block in blocks for seed in parse_seeds(str(block.get("seeds", "0")))}


def those(own: pd.DataFrame, claim: Claim, problem: str, solver: str) -> pd.Series:
    """Which of a claim's runs are those of a problem and a solver, by their names in the claim."""
    text, by = plain(claim.problems[problem]), plain(claim.solvers[solver])
    return (own["problem_text"] == text) & (own["solver_text"] == by)


def _values(
    data: Results, own: pd.DataFrame, claim: Claim, cell: Cell, solver: str
) -> tuple[dict[int, float], str, bool]:
    """The figure by seed, a note on what is not there, and whether runs failed through the solver or the machine."""
    runs = own[those(own, claim, cell.problem, solver)].sort_values("steps")
    good = runs[runs["status"] == "done"]
    made: dict[int, float] = {}
    for seed, run in zip(good["seed"], good.itertuples(), strict=True):  # the longest comes last
        if (value := figure(data, run, cell)) is not None:
            made[int(seed)] = value
    bad = runs[runs["status"] != "done"]
    if not len(bad):
        return made, "", False
    reason = str(bad["reason"].iloc[0])
    if (bad["status"] == "unsupported").all():
        return made, reason, False
    return made, f"{len(bad)} of {len(runs)} runs: {bad['status'].iloc[0]} ({reason})", True


def _why(cells: tuple[Measured, ...]) -> str:
    """How many cells hold, and which do not, in a clause."""
    judged = [one for one in cells if one.ruling != SHOWN]
    parts = [f"{sum(one.ruling == HOLDS for one in judged)} of {len(judged)} figures hold"]
    for kind, words in ((FAILS, "contradicted"), (OPEN, "open"), (MISSING, "not run"), (UNSUPPORTED, "unsupported")):
        named = [f"{one.cell.solver} on {one.cell.problem}" for one in judged if one.ruling == kind]
        if named:
            few = ", ".join(dict.fromkeys(named)) if len(set(named)) <= 4 else f"{len(named)}"
            parts.append(f"{words}: {few}")
    notes = dict.fromkeys(one.note for one in cells if one.note)
    return "; ".join([*parts, *list(notes)[:2]])
