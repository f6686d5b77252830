"""How solvers do over all targets at once: cost to target, performance profiles, cost beside memory.

Targets are weighed as everywhere: families alike, problems within a family, instances within a problem, targets within
an instance. What a solver took no part in counts as not held, so that curves of all solvers have one denominator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .paired import instances


def weighed(hit: pd.DataFrame, runs: pd.DataFrame, by: str, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row per target and solver that holds it: solver, cost, ratio (over the best solver's), weight.

    The weights of all targets sum to 1, whoever holds them.
    """
    whole = instances(hit, runs, weights)
    each = whole.table[["problem", "seed"]].assign(weight=whole.weight)
    targets = hit[["problem", "seed", "target"]].drop_duplicates().merge(each, on=["problem", "seed"])
    targets["weight"] /= targets.groupby(["problem", "seed"])["target"].transform("count")
    held = hit[np.isfinite(hit[by].astype(float))].rename(columns={by: "cost"})
    table = held[["problem", "seed", "target", "solver", "cost"]].merge(targets, on=["problem", "seed", "target"])
    best = table.groupby(["problem", "seed", "target"])["cost"].transform("min")
    return table.assign(ratio=table["cost"] / best.where(best > 0, 1.0))


def curve(table: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """For each solver the steps of a distribution, (points, 2): a value, and the weight of what is at most that.

    Of ``cost`` it is the empirical distribution of the cost to target (as COCO draws it: Hansen et al. 2021), of
    ``ratio`` the performance profile (Dolan and More 2002).
    """
    found = {}
    for solver, group in table.groupby("solver", sort=True):
        ordered = group.sort_values(column)
        share = ordered["weight"].cumsum().to_numpy(float)
        value = ordered[column].to_numpy(float)
        last = np.append(value[1:] != value[:-1], True) if len(value) else np.zeros(0, bool)
        found[str(solver)] = np.column_stack([value[last], share[last]])
    return found


def pareto(leaders: pd.DataFrame) -> pd.DataFrame:
    """Cost and memory of each solver, and whether no other has less of both.

    Columns: solver, cost (over the first's), vectors (peak memory in vectors of the size of y), best.
    """
    table = leaders.loc[leaders["lead"].notna(), ["solver", "cost", "vectors"]].dropna().reset_index(drop=True)
    cost, vectors = table["cost"].to_numpy(float), table["vectors"].to_numpy(float)
    no_more = (cost <= cost[:, None]) & (vectors <= vectors[:, None])
    less = no_more & ((cost < cost[:, None]) | (vectors < vectors[:, None]))
    return table.assign(best=np.logical_not(less.any(axis=1)))
