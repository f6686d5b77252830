"""Findings on papers' claims as rows and lines: published, measured with its interval, verdict, what it took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bilevelbench.stats.findings import Finding, Measured
from bilevelbench.stats.papers import Cell

from .tables import number

DIGITS = 4


def cell_rows(finding: Finding) -> list[dict[str, Any]]:
    """A row for each published figure of a claim, as plain values."""
    claim = finding.claim
    return [
        {
            "paper": claim.paper, "claim": claim.id, "scale": finding.scale, "problem": one.cell.problem,
            "solver": one.cell.solver, "figure": figure(one.cell), "published": published(one.cell),
            "spread": one.cell.spread, "band": band(one.cell), "measured": one.found.mean, "low": one.found.low,
            "high": one.found.high, "seeds": len(one.values), "ruling": one.ruling, "note": one.note,
            "problem_spec": claim.problems[one.cell.problem], "solver_spec": claim.solvers[one.cell.solver],
        }
        for one in finding.cells
    ]  # fmt: skip


def claim_row(finding: Finding) -> dict[str, Any]:
    """A claim's row, as plain values."""
    return {
        "paper": finding.claim.paper, "claim": finding.claim.id, "where": finding.claim.where, "scale": finding.scale,
        "verdict": finding.verdict, "why": finding.why, "cpu_minutes": finding.cpu_seconds / 60, "runs": finding.runs,
    }  # fmt: skip


def value_rows(finding: Finding) -> list[dict[str, Any]]:
    """A row for each seed of each cell: the claim, the cell's place in it, its band, and the figure."""
    rows = []
    for place, one in enumerate(finding.cells):
        low, high = one.cell.band or (math.nan, math.nan)
        rows += [
            {"claim": finding.claim.id, "scale": finding.scale, "cell": place, "value": value, "above": low,
             "below": high, "fixed": one.found.low == one.found.high}
            for value in one.values
        ]  # fmt: skip
    return rows


def figure(cell: Cell) -> str:
    """What is measured, in words: ``error at the end ÷ that of GD``."""
    name = cell.figure if isinstance(cell.figure, str) else f"largest deviation of {', '.join(cell.figure)}"
    when = {"end": "", "least": ", the least", "most": ", the most", "swing": ", most less least of the last half"}
    at = f" at step {cell.at}" if isinstance(cell.at, int) else when.get(cell.at, f" where {_chosen(str(cell.at))}")
    than = f" ÷ that of {cell.over}" if cell.over else f" less that of {cell.minus}" if cell.minus else ""
    return f"{name}{at}{than}"


def _chosen(at: str) -> str:
    way, _, name = at.partition(" ")
    return f"{name} is {way}"


def published(cell: Cell) -> str:
    """The published value with its spread."""
    if cell.said or cell.published is None:
        return cell.said or "—"
    if isinstance(cell.published, tuple):
        return f"({', '.join(number(value, DIGITS) for value in cell.published)})"
    return number(cell.published, DIGITS) + (f" ± {number(cell.spread, 2)}" if cell.spread else "")


def band(cell: Cell) -> str:
    """What counts as reproduced."""
    if cell.band is None:
        return "not judged"
    low, high = cell.band
    if math.isinf(low):
        return f"≤ {number(high, DIGITS)}"
    return f"≥ {number(low, DIGITS)}" if math.isinf(high) else f"{number(low, DIGITS)} to {number(high, DIGITS)}"


def measured(one: Measured) -> str:
    """The mean with its interval, or why there is none."""
    mean, low, high = one.found
    if math.isnan(mean):
        return one.ruling
    if math.isnan(low):
        return f"{number(mean, DIGITS)} (of {len(one.values)}, no interval)"
    return number(mean, DIGITS) + ("" if low == high else f" [{number(low, 3)}, {number(high, 3)}]")


def command(finding: Finding) -> str:
    """What makes a claim's runs again."""
    return f"bilevelbench run papers --claim {finding.claim.id} --scale {finding.scale}"


def minutes(finding: Finding) -> str:
    """CPU minutes of a claim's runs."""
    return "—" if math.isnan(finding.cpu_seconds) else f"{finding.cpu_seconds / 60:.1f}"


def lines(findings: Iterable[Finding]) -> list[str]:
    """For a terminal: each claim with its verdict, and under it each figure."""
    made = []
    for one in findings:
        made.append(f"{one.claim.id:4} {one.claim.where}: {one.verdict}" + (f" ({one.why})" if one.why else ""))
        made += [f"       {_line(cell)}" for cell in one.cells if cell.values]
    return made


def _line(one: Measured) -> str:
    of = f"{one.cell.solver} on {one.cell.problem}, {figure(one.cell)}"
    return f"{of}: published {published(one.cell)} | measured {measured(one)} | {one.ruling} ({band(one.cell)})"


def tally(findings: Iterable[Finding]) -> Mapping[str, int]:
    """How many claims have each verdict."""
    counted: dict[str, int] = {}
    for one in findings:
        counted[one.verdict] = counted.get(one.verdict, 0) + 1
    return counted
