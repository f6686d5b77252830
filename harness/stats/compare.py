"""Tables that compare solvers: leaders, who holds what, duels, and what the verdict hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bilevelbench.store.schema import FAILED

from .paired import MARGIN, Field, Instances, Standing, instances, standing
from .targets import costs, median, not_run, ratios_to_best

AXES = ("calls", "grads", "seconds")  # the first is counted exactly, on any machine, and decides


FEWER = 500  # resamples of each other way of weighing


class Comparison(NamedTuple):
    """What follows from runs and their targets."""

    leaders: pd.DataFrame
    standings: dict[str, Standing]  # by axis; those that can be had
    fields: dict[str, Field]
    weights: dict[str, float]  # of families, where other than 1


def compare(runs: pd.DataFrame, hit: pd.DataFrame, weights: Mapping[str, float] | None = None) -> Comparison:
    """Everything that is said of a set of runs. ``weights``: of families, other than 1."""
    fields = {by: Field(hit, runs, by, weights) for by in AXES if hit[by].notna().any() and runs[by].notna().any()}
    fields = {by: field for by, field in fields.items() if len(field.of.table)}
    standings = {by: standing(field) for by, field in fields.items()}
    return Comparison(leaders(runs, hit, fields, standings, weights), standings, fields, dict(weights or {}))


def leaders(
    runs: pd.DataFrame, hit: pd.DataFrame, fields: dict[str, Field], standings: dict[str, Standing],
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per solver, best first: cost over the first's, share of targets held, cost ratios, memory, failures.

    ``cost``: geometric mean over targets of the calls, over the first solver's, on what both took part in; unsolved
    costs ten times the budget (see ``paired``). ``lead``: the share of resamples of families, problems and instances in
    which the solver leads. ``taken``: the weight of the instances that it took part in. ``share``: targets held over
    targets set, families weighing alike, with its 95 % interval ``low`` and ``high``. ``passed``: targets met and not
    held; ``unjudged``: those whose answer hangs on a look that could not be judged. ``calls_ratio``, ``passes_ratio``,
    ``grads_ratio`` (gradient equivalents), ``seconds_ratio``: median over the targets that somebody held of the cost
    over the best solver's. ``over_floor``: seconds over their floor (``store.prices``), the median over runs.
    ``vectors``: peak memory on the problem with the most lower variables, in vectors of the size of y. ``order``: the
    highest that was asked for. ``failed``: through the solver's own fault; ``excused``: through another's.
    """
    whole = instances(hit, runs, weights)
    table = pd.DataFrame(
        [_leader(str(s), group, hit[hit["solver"] == s], whole) for s, group in runs.groupby("solver", sort=True)]
    )
    table["cost"], table["lead"], table["taken"] = np.nan, np.nan, np.nan
    if "calls" in fields:
        field, lead = fields["calls"], standings["calls"].lead
        first = _first(field, standings["calls"])
        own = table["solver"].isin(field.solvers)
        table.loc[own, "cost"] = [
            float(np.exp(cost)) for cost in field.of.centre(field.log - field.log[:, [field.solvers.index(first)]])
        ]
        table["lead"] = table["solver"].map(lead)
        table["taken"] = table["solver"].map(dict(zip(field.solvers, field.taken, strict=True)))
    for by in ("calls", "passes", "grads", "seconds"):
        table[f"{by}_ratio"] = np.nan
        if len(hit):
            ratio = ratios_to_best(costs(hit, by)).groupby("solver")["ratio"].agg(median)
            table[f"{by}_ratio"] = table["solver"].map(ratio)
    able = table["lead"].isna()  # what took too little part comes last
    return table.assign(able=able).sort_values(
        ["able", "cost", "share", "solver"], ascending=[True, True, False, True], na_position="last", ignore_index=True
    ).drop(columns="able")  # fmt: skip


def _first(field: Field, found: Standing) -> str:
    from .paired import cheapest

    able = list(found.lead) or field.solvers
    return found.winner or cheapest(field, able)


def _leader(solver: str, runs: pd.DataFrame, hit: pd.DataFrame, whole: Instances) -> dict[str, Any]:
    made = runs[~not_run(runs)]
    held = hit.assign(held=np.isfinite(hit["calls"].astype(float)))
    share, low, high = whole.mean(per_instance(held, whole))
    peaks = made.dropna(subset=["peak_bytes", "n_y"])
    width = np.where(peaks["dtype"] == "float32", 4, 8)
    vectors = (peaks["peak_bytes"] / (peaks["n_y"] * width)).to_numpy(float)
    largest = int(peaks["n_y"].to_numpy(float).argmax()) if len(peaks) else None
    return {
        "solver": solver,
        "order": runs["order"].max() if runs["order"].notna().any() else None,
        "runs": len(made),
        "share": share,
        "reached": int(held["held"].sum()),
        "targets": len(held),
        "low": float(np.clip(low, 0, 1)),
        "high": float(np.clip(high, 0, 1)),
        "passed": int(held["passed"].sum()),
        "unjudged": int(held["unjudged"].sum()),
        "peak_bytes": float(peaks["peak_bytes"].max()) if len(peaks) else float("nan"),
        "vectors": float(vectors[largest]) if largest is not None else float("nan"),
        "over_floor": _over_floor(made),
        "failed": int(made["status"].isin(FAILED).sum()),
        "unsupported": int((runs["status"] == "unsupported").sum()),
        "excused": int((not_run(runs) & (runs["status"] != "unsupported")).sum()),
    }


def per_instance(held: pd.DataFrame, whole: Instances) -> np.ndarray:
    """The share of its targets that one solver holds on each instance; NaN where it took no part."""
    if not len(whole.table):
        return np.zeros(0)
    share = held.groupby(["problem", "seed"])["held"].mean()
    return share.reindex(pd.MultiIndex.from_frame(whole.table[["problem", "seed"]])).to_numpy(float)


def _over_floor(runs: pd.DataFrame) -> float:
    """Seconds of steps over their floor. On the CPU both are CPU seconds, which a busy machine does not spoil."""
    seconds = runs["cpu_seconds"].where(runs["device"] == "cpu", runs["seconds"]).astype(float)
    ratio = (seconds / runs["floor_seconds"].astype(float))[(runs["floor_seconds"] > 0) & (seconds > 0)]
    return float(ratio.median()) if len(ratio) else float("nan")


def reached(hit: pd.DataFrame) -> pd.DataFrame:
    """Problems x solvers: the share of targets held, over all seeds."""
    held = hit.assign(held=np.isfinite(hit["calls"].astype(float)))
    return held.pivot_table(index="problem", columns="solver", values="held", aggfunc="mean")


def duels(found: Comparison, hit: pd.DataFrame, one: str, by: str = "calls") -> pd.DataFrame:
    """``one`` against each rival, on the instances that both took; the rival that it loses to most comes first.

    Columns: solver (the rival), ratio (what it pays over what ``one`` pays: above 1 where ``one`` is cheaper) with its
    95 % interval ``low`` and ``high``, surely (share of resamples in which ``one`` is cheaper at all), wins, ties and
    losses (families), only_one and only_other (targets that one of the two holds alone, as shares of all).
    """
    field = found.fields.get(by)
    if field is None or one not in field.solvers:
        return pd.DataFrame(
            columns=["solver", "ratio", "low", "high", "surely", "wins", "ties", "losses", "only_one", "only_other"]
        )
    cheaper = field.leads(one, 1.0).mean(axis=0)
    rows = []
    for place, other in enumerate(field.solvers):
        over = field.over(one, other)
        if other == one or not np.isfinite(over).any():
            continue
        ratio, low, high = field.ratio(one, other)
        apart = families(field, over)
        wins, losses = int((apart > np.log(MARGIN)).sum()), int((apart < -np.log(MARGIN)).sum())
        mine, theirs = _alone(hit, one, other)
        rows.append((other, ratio, low, high, cheaper[place], wins, len(apart) - wins - losses, losses, mine, theirs))
    names = ["solver", "ratio", "low", "high", "surely", "wins", "ties", "losses", "only_one", "only_other"]
    return pd.DataFrame(rows, columns=names).sort_values(["ratio", "solver"], ignore_index=True)


def families(field: Field, over: np.ndarray) -> pd.Series:
    """The mean of a number for each instance by family, problems weighing alike within each."""
    table = field.of.table.assign(over=over, weight=field.of.weight).dropna(subset=["over"])
    table["over"] *= table["weight"]
    sums = table.groupby("family")[["over", "weight"]].sum()
    return sums["over"] / sums["weight"]


def _alone(hit: pd.DataFrame, one: str, other: str) -> tuple[float, float]:
    """Shares of the targets that both were set, which one of two holds and the other does not."""
    held = hit[hit["solver"].isin([one, other])].assign(held=lambda t: np.isfinite(t["calls"].astype(float)))
    wide = held.pivot_table(
        index=["problem", "seed", "target"], columns="solver", values="held", aggfunc="first"
    ).dropna()
    if not len(wide):
        return float("nan"), float("nan")
    first, second = wide[one].astype(bool), wide[other].astype(bool)
    return float((first & ~second).mean()), float((second & ~first).mean())


class Hanging(NamedTuple):
    """Under what else the verdict was tried, and where it came out otherwise: (what was changed, who wins then)."""

    tried: int
    otherwise: list[tuple[str, str]]


def stability(runs: pd.DataFrame, hit: pd.DataFrame, found: Comparison) -> Hanging:
    """The standing by calls anew: without each family, with problems weighing alike, with every second instance, and
    with all that could not be judged counted as held. What has another winner, or a winner where there was none."""
    if "calls" not in found.standings:
        return Hanging(0, [])
    names = sorted(found.fields["calls"].of.table["family"].unique())
    ways: list[tuple[str, pd.DataFrame, dict[str, float]]] = []
    if len(names) > 1:
        ways += [(f"without {name}", hit, found.weights | {name: 0.0}) for name in names]
        ways.append(("with problems weighing alike", hit.assign(family=hit["problem"]), {}))
    seeds = sorted(hit["seed"].unique())
    if len(seeds) > 1:
        ways += [("with every second seed", hit[hit["seed"].isin(seeds[::2])], found.weights),
                 ("with the other seeds", hit[hit["seed"].isin(seeds[1::2])], found.weights)]  # fmt: skip
    if hit["unjudged"].any():
        ways.append(("with all that could not be judged held at once", _granted(hit), found.weights))
    mine, other = found.standings["calls"].winner, []
    for words, table, weights in ways:
        winner = standing(Field(table, runs, "calls", weights, FEWER)).winner
        if winner != mine:
            other.append((words, winner))
    return Hanging(len(ways), other)


def _granted(hit: pd.DataFrame) -> pd.DataFrame:
    """The targets as if each that hangs on what could not be judged were held at the least cost of any solver."""
    least = hit.groupby(["problem", "seed", "target"])["calls"].transform("min")
    return hit.assign(calls=hit["calls"].where(~hit["unjudged"], least))
