"""How much of a solver's success hangs on its step: from the scores of its tuning, without runs of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

FACTORS = tuple(2.0**k for k in range(-4, 5))  # times the chosen step
COLUMNS = ("problem", "solver", "factor", "share", "score", "instances")
TOLD = ("instances", "score", "share", "cost", "chosen")  # of a step; the other entry is the step itself


def table(lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each problem, solver and step that was tried with the other knobs as chosen.

    Columns: problem, solver (its name), factor (the step over the chosen one, a power of 2), share (of targets held),
    score (what configurations were chosen by), instances. ``lines``: as ``suites/scores`` holds them.
    """
    rows = []
    for line in lines:
        steps = [(next((v for name, v in step.items() if name not in TOLD), None), step) for step in line["steps"]]
        chosen = next((value for value, step in steps if step["chosen"]), None)
        for value, step in steps:
            if chosen and value:
                factor = 2.0 ** round(float(np.log2(value / chosen)))
                told = (step["share"], step["score"], step["instances"])
                rows.append((line["problem"], line["asked"].partition("(")[0], factor, *told))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def curves(table: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Solvers x factors: the mean share of targets held, families weighing alike, over the problems where the step was
    tried. ``families``: of problems; one that is not named is its own."""
    known = table[table["factor"].isin(FACTORS)]
    known = known.assign(family=known["problem"].map(lambda name: families.get(name, name)))
    inside = known.groupby(["solver", "factor", "family", "problem"])["share"].mean()
    means = inside.groupby(["solver", "factor", "family"]).mean().groupby(["solver", "factor"]).mean()
    return means.unstack("factor").reindex(columns=list(FACTORS))


def ranks(found: pd.DataFrame) -> pd.DataFrame:
    """Solvers x (0.5, 1, 2): the rank by ``curves`` where all take so many times the chosen step; 1 is best."""
    return found[[0.5, 1.0, 2.0]].rank(ascending=False, method="min")
