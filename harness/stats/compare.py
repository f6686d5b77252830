"""Tables that compare solvers: leaders, who reaches what, where BOME stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bilevelbench.store.schema import FAILED

from .intervals import share_interval
from .targets import costs, median, not_run, ratios_to_best


def leaders(runs: pd.DataFrame, hit: pd.DataFrame) -> pd.DataFrame:
    """One row per solver, best first: share of targets reached, cost ratios to the best, memory, failures.

    ``share``: targets reached over targets set, runs pooled within a problem and problems weighing alike. ``low`` and
    ``high``: its bootstrap interval, from five runs a problem on. ``calls_ratio``, ``passes_ratio``, ``grads_ratio``
    (gradient equivalents), ``seconds_ratio``: median over the targets that somebody met of the cost over the best
    solver's. ``over_floor``: seconds over their floor (``store.prices``), the median over runs. ``vectors``:
    peak memory on the problem with the most lower variables, in vectors of the size of y. ``order``: the highest that
    was asked for. ``failed``: through the solver's own fault; ``excused``: through another's.
    """
    rows = [
        _leader(str(solver), group, hit[hit["solver"] == solver]) for solver, group in runs.groupby("solver", sort=True)
    ]
    table = pd.DataFrame(rows)
    for by in ("calls", "passes", "grads", "seconds"):
        ratio = (
            ratios_to_best(costs(hit, by)).groupby("solver")["ratio"].agg(median)
            if len(hit)
            else pd.Series(dtype=float)
        )
        table[f"{by}_ratio"] = table["solver"].map(ratio)
    return table.sort_values(
        ["share", "calls_ratio", "solver"], ascending=[False, True, True], na_position="last", ignore_index=True
    )


def _leader(solver: str, runs: pd.DataFrame, hit: pd.DataFrame) -> dict[str, Any]:
    made = runs[~not_run(runs)]
    met = hit.assign(met=np.isfinite(hit["calls"].astype(float)))
    per_run = met.groupby(["problem", "run"])["met"].mean()
    interval = share_interval([shares.to_numpy(float) for _, shares in per_run.groupby("problem")])
    peaks = made.dropna(subset=["peak_bytes", "n_y"])
    width = np.where(peaks["dtype"] == "float32", 4, 8)
    vectors = (peaks["peak_bytes"] / (peaks["n_y"] * width)).to_numpy(float)
    largest = int(peaks["n_y"].to_numpy(float).argmax()) if len(peaks) else None
    return {
        "solver": solver,
        "order": runs["order"].max() if runs["order"].notna().any() else None,
        "runs": len(made),
        "share": float(met.groupby("problem")["met"].mean().mean()) if len(met) else float("nan"),
        "reached": int(met["met"].sum()),
        "targets": len(met),
        "low": interval[0] if interval else float("nan"),
        "high": interval[1] if interval else float("nan"),
        "peak_bytes": float(peaks["peak_bytes"].max()) if len(peaks) else float("nan"),
        "vectors": float(vectors[largest]) if largest is not None else float("nan"),
        "over_floor": _over_floor(made),
        "failed": int(made["status"].isin(FAILED).sum()),
        "unsupported": int((runs["status"] == "unsupported").sum()),
        "excused": int((not_run(runs) & (runs["status"] != "unsupported")).sum()),
    }


def _over_floor(runs: pd.DataFrame) -> float:
    """Seconds of steps over their floor. On the CPU both are CPU seconds, which a busy machine does not spoil."""
    seconds = runs["cpu_seconds"].where(runs["device"] == "cpu", runs["seconds"]).astype(float)
    ratio = (seconds / runs["floor_seconds"].astype(float))[(runs["floor_seconds"] > 0) & (seconds > 0)]
    return float(ratio.median()) if len(ratio) else float("nan")


def reached(hit: pd.DataFrame) -> pd.DataFrame:
    """Problems x solvers: the share of targets reached, over all seeds."""
    met = hit.assign(met=np.isfinite(hit["calls"].astype(float)))
    return met.pivot_table(index="problem", columns="solver", values="met", aggfunc="mean")


def duels(hit: pd.DataFrame, one: str, others: list[str], by: str) -> pd.DataFrame:
    """Per problem, ``one`` against the best of ``others`` at the hardest target that either reaches.

    Columns: problem, decade, cost (of ``one``), best (of the others), other (its name). Problems where neither reaches
    any target are left out.
    """
    cost = costs(hit, by)
    rows = []
    for problem, group in cost.groupby("problem", sort=True):
        table = group.pivot_table(index="decade", columns="solver", values="cost", aggfunc="first", dropna=False)
        rivals = [name for name in others if name in table]
        if one not in table or not rivals:
            continue
        best = table[rivals].min(axis=1)
        met = table.index[np.isfinite(np.minimum(table[one], best))]
        if len(met):
            hardest = max(met)
            rows.append((problem, hardest, table.loc[hardest, one], best[hardest], table.loc[hardest, rivals].idxmin()))
    return pd.DataFrame(rows, columns=["problem", "decade", "cost", "best", "other"])
