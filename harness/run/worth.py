"""What a run is worth in tuning: the targets that it holds, then what they cost. As in ``stats.targets``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bilevelbench.measure.budget import Budget
from bilevelbench.store.aims import DECADES, HALF, REACHED, SLACK
from bilevelbench.store.schema import Row

Goal = tuple[float, str, str]  # value, which way is better, target or bar


class Aim(NamedTuple):
    """A target: what is left of the way at each look as a share of that from the start, how near is near enough, and
    above what it is no longer held. A bar is to be beaten, not met."""

    left: list[float]
    near: float
    slack: float
    strict: bool = False


def cost(aim: Aim, spent: Sequence[float]) -> float:
    """What the first look cost from which on the target is held; infinity where it is not."""
    found = math.inf
    for left, price in zip(aim.left, spent, strict=True):
        if math.isnan(left):  # could not be judged
            continue
        if left > aim.slack:
            found = math.inf
        elif left < aim.near or (left == aim.near and not aim.strict):
            found = min(found, price)
    return found


def aims(
    rows: Sequence[Mapping[str, float | None]], goals: Mapping[str, Goal], reference: float = math.nan
) -> list[Aim]:
    """The targets of a run with the metrics of its looks. ``goals``: of the problem's own figures, as ``store.aims``
    has them. ``reference``: the best Phi known, NaN where none is."""
    made = []
    for measure, decades in DECADES.items():
        best = reference if measure == "phi" else 0.0
        start, scale = rows[0].get(measure), 1.0 if measure == "distance" else abs(rows[0].get("phi") or 1.0)
        if start is not None and start - best > REACHED * scale:
            left = [_share(row.get(measure), start, best) for row in rows]
            made = [Aim(left, 10.0**-k, SLACK * 10.0**-k) for k in decades]
            break
    for figure, (goal, better, kind) in goals.items():
        start = rows[0].get(figure)
        if start is not None and (goal > start if better == "higher" else goal < start):
            made.append(Aim([_share(row.get(figure), start, goal) for row in rows], 0.0, HALF, kind == "bar"))
    return made


def _share(value: float | None, start: float, goal: float) -> float:
    if value is None:
        return math.nan
    share = (value - goal) / (start - goal)
    return share if math.isfinite(share) else math.inf


def worth(rows: Sequence[Row], own: Mapping[str, Goal], budget: Budget, reference: float) -> dict[str, float]:
    """A run's ``score``, ``share`` and ``cost`` (see ``score.outcome``)."""
    judged = [row for row in rows if "phi" in row.metrics or not row.metrics.keys() & {"phi", "phi_gap"}]
    metrics = [row.metrics for row in judged]
    spent = [float(sum(row.rows.values()) if budget.rows else row.total_calls) or 1.0 for row in judged]
    all_ = aims(metrics, own, reference)
    held = [price for aim in all_ if (price := cost(aim, spent)) < math.inf]
    if not held:
        ends = [[left for left in aim.left if not math.isnan(left)][-2:] for aim in all_]
        left = min(map(max, filter(None, ends)), default=1.0) if all_ else _phi_left(metrics)
        return {"score": max(0.0, 1.0 - left) / (len(all_) + 1), "share": 0.0, "cost": math.inf}
    mean = math.exp(sum(map(math.log, held)) / len(held))
    most = float(budget.rows or budget.calls or max(spent))
    saved = max(0.0, 1.0 - math.log(mean) / math.log(max(most, math.e)))
    return {"score": (len(held) + saved) / (len(all_) + 1), "share": len(held) / len(all_), "cost": mean}


def _phi_left(metrics: Sequence[Mapping[str, float | None]]) -> float:
    """Where no target is set: Phi at the end as a share of that of the start, both moved so that less is better."""
    values = [value for row in metrics if (value := row.get("phi")) is not None]
    if len(values) < 2:
        return 1.0
    return 1.0 - (values[0] - max(values[-2:])) / (abs(values[0]) + abs(values[-1]) or 1.0)
