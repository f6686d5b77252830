"""Whether a bilevel method was needed: who beats the lines that need none, and where a control does as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bilevelbench.stats.compare import Comparison
from bilevelbench.stats.paired import MARGIN
from bilevelbench.stats.targets import not_run
from bilevelbench.store.schema import FAILED

from .words import both, count, some

CONTROL = "control"


def against_references(runs: pd.DataFrame, final: pd.DataFrame, problems: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Each solver's last value against the best of the lines that it must beat, of the same runs: medians over seeds.

    Columns: problem, solver, value, line, name (of the line), figure, better. ``problems``: per run, what its header
    says of the problem; files without ``bar`` take no part. A run that failed through the solver's fault has the worst
    value.
    """
    rows = []
    last = final.set_index("run")
    counted = runs.loc[~not_run(runs), ["run", "problem", "solver", "status"]]
    for run, problem, solver, status in counted.itertuples(index=False):
        bar, lines = problems[run].get("bar"), problems[run].get("references") or {}
        if not bar or bar["figure"] not in last:
            continue
        better = (problems[run].get("better") or {}).get(bar["figure"], "lower")  # phi
        known = {name: lines.get(name, {}).get(bar["figure"]) for name in bar["lines"]}
        given = {name: value for name, value in known.items() if value is not None}
        value = last[bar["figure"]].get(run, np.nan)
        if status in FAILED:
            value = -np.inf if better == "higher" else np.inf
        if not given or np.isnan(value):
            continue
        hardest = (max if better == "higher" else min)(given, key=given.__getitem__)
        rows.append((problem, solver, value, given[hardest], hardest, bar["figure"], better))
    table = pd.DataFrame(rows, columns=["problem", "solver", "value", "line", "name", "figure", "better"])
    for _, group in table.groupby("problem"):
        table.loc[group.index, "name"] = group["name"].mode()[0]  # the hardest line of most seeds
    return table.groupby(["problem", "solver", "name", "figure", "better"], as_index=False)[["value", "line"]].median()


def useful(references: pd.DataFrame) -> str:
    """Which solvers beat the best line that needs no bilevel method, and on which problems none does."""
    parts, nothing = [], []
    for problem, group in references.groupby("problem", sort=True):
        figure, better, line = (str(group[name].iloc[0]) for name in ("figure", "better", "name"))
        apart = group["value"] - group["line"]
        beat = sorted(group.loc[apart > 0 if better == "higher" else apart < 0, "solver"])
        what = f"“{line}” in {figure} ({better} is better)"
        if beat:
            parts.append(f"On {problem}, {some(beat, 'solver')} beat{'s' if len(beat) == 1 else ''} {what}.")
        else:
            nothing.append(f"{what} on {problem}")
    if nothing:
        parts.append(f"No solver beats {both(nothing)}: nothing is shown there.")
    return " ".join(parts)


def controls(runs: pd.DataFrame, found: Comparison) -> str:
    """Where a control, which makes no use of the bilevel structure, is as cheap as any method."""
    field = found.fields.get("calls")
    known = set(runs.loc[runs["kind"] == CONTROL, "solver"]) if "kind" in runs else set()
    if field is None or not known & set(field.solvers) or not set(field.solvers) - known:
        return ""
    paid = pd.DataFrame(field.log, columns=field.solvers).groupby(field.of.table["problem"].to_numpy()).mean()
    names = [s for s in field.solvers if s in known]
    ahead = paid[names].min(axis=1) <= paid.drop(columns=names).min(axis=1) + np.log(MARGIN)
    named = [f"{paid.loc[problem, names].idxmin()} on {problem}" for problem in paid.index[ahead]]
    if not named:
        return ""
    return (
        f"A control is as cheap as any method in {count(len(named), 'problem')}: {some(named)}. Little is shown there."
    )
