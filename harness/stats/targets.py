"""Several targets per problem, never one cliff, and what it costs to reach each first.

Where Phi* is known: phi_gap down to 10^-k of its start, k = 1, 2, 3, 4, 6, 8. Otherwise the norm of the true
hypergradient down to 10^-k of its start, k = 1, 2, 3, where Phi is not above its start: far out Phi may be flat.
Where Phi does not depend on x at all, the distance of y from y*, like phi_gap, if the problem gives it. Unsolved costs
infinity and stays in the denominator. The look at which a run diverged reaches nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bilevelbench.store.schema import FAILED

DECADES = {"phi_gap": (1, 2, 3, 4, 6, 8), "grad_phi": (1, 2, 3), "distance": (1, 2, 3, 4, 6, 8)}
REACHED = 1e-12  # of its own scale: a measure that starts below has nothing left to reach


def not_run(runs: pd.DataFrame) -> pd.Series:
    """Which runs say nothing about their solver and are in no denominator: those that are unsupported, and those that
    did not end well through no fault of the solver's."""
    failed = runs["status"].isin(FAILED)
    return (runs["status"] == "unsupported") | (failed & (runs["fault"] != "solver") if "fault" in runs else False)


def measure_of(looks: pd.DataFrame) -> str:
    """The metric that a problem's targets are set on: phi_gap, else grad_phi, else distance, else '' (no targets)."""
    first = looks.sort_values("step").groupby("run").first()
    for name in DECADES:
        if name in looks:
            scale = first["phi"].abs().fillna(0) if name == "phi_gap" and "phi" in first else looks[name].max()
            if (first[name] > REACHED * scale).any():
                return name
    return ""


def hits(runs: pd.DataFrame, looks: pd.DataFrame) -> pd.DataFrame:
    """One row per run and target: calls, grads (gradient equivalents) and seconds at the first look that meets it,
    infinity where none does; grads are NaN where the oracle's prices are not known.

    Columns: run, problem, solver, seed, measure, decade, calls, grads, seconds. A run that failed keeps what it reached
    before. Runs that say nothing about their solver (``not_run``) and problems without a measure have no rows.
    """
    counted = runs[~not_run(runs)]
    tables = []
    for problem, group in counted.groupby("problem", sort=True):
        seen = looks[looks["run"].isin(group["run"])]
        measure = measure_of(seen)
        if measure:
            tables.append(_hits(group, seen, measure).assign(problem=problem, measure=measure))
    columns = ["run", "problem", "solver", "seed", "measure", "decade", "calls", "passes", "grads", "seconds"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _hits(runs: pd.DataFrame, looks: pd.DataFrame, measure: str) -> pd.DataFrame:
    looks = looks[looks[measure].notna() & (looks["status"] != "diverged")].sort_values(["run", "step"])
    start = looks.groupby("run", observed=True)[measure].transform("first")
    counts = (
        looks["phi"] <= looks.groupby("run", observed=True)["phi"].transform("first") if measure == "grad_phi" else True
    )
    tables = []
    for decade in DECADES[measure]:
        met = looks[(looks[measure] <= start * 10.0**-decade) & counts]
        first = met.groupby("run", observed=True)[["total_calls", "passes", "grads", "seconds"]].first()
        table = runs[["run", "solver", "seed"]].merge(first, left_on="run", right_index=True, how="left")
        tables.append(table.rename(columns={"total_calls": "calls"}).assign(decade=decade))
    return pd.concat(tables).assign(
        calls=lambda t: t["calls"].astype(float).fillna(np.inf),
        passes=lambda t: t["passes"].astype(float).where(np.isfinite(t["calls"]), np.inf),
        grads=lambda t: t["grads"].astype(float).where(np.isfinite(t["calls"]), np.inf),
        seconds=lambda t: t["seconds"].astype(float).fillna(np.inf),
    )


def costs(hit: pd.DataFrame, by: str) -> pd.DataFrame:
    """Median over seeds of the cost to each target (column ``cost``), infinity where the median run never gets there.

    One row per problem, decade and solver. ``by`` is "calls", "passes", "grads" or "seconds".
    """
    return hit.dropna(subset=[by]).groupby(["problem", "decade", "solver"])[by].agg(median).rename("cost").reset_index()


def median(values: pd.Series | np.ndarray) -> float:
    """The median of numbers that may be infinite; between a finite and an infinite one it is infinite."""
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    if n == 0:
        return float("nan")
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    return float(low if low == high else (low + high) / 2)


def ratios_to_best(cost: pd.DataFrame) -> pd.DataFrame:
    """``cost`` with ``ratio``: over the least cost of any solver at that target; rows of targets that nobody met go."""
    best = cost.groupby(["problem", "decade"])["cost"].transform("min")
    return cost.assign(ratio=cost["cost"] / best)[np.isfinite(best)]
