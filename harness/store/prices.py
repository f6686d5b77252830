"""Oracle calls weighed by what they take: gradient equivalents, and the floor of a run.

The prices of a problem are those that its runs measured (see ``measure.prices``), the median over their headers: what
was asked the same costs the same, whichever process measured it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .journal import Record

UNIT = "dg_y"  # one gradient equivalent is one gradient of g in y over all rows
Prices = dict[str, tuple[float, float]]


class Priced(NamedTuple):
    """Prices of a problem, and the seconds of a gradient equivalent; NaN where they are not known."""

    prices: Prices
    unit: float


def price(runs: pd.DataFrame, records: Mapping[str, Record]) -> dict[str, Priced]:
    """The prices of each problem; ``grads``, gradient equivalents, and ``floor_seconds`` are added to ``runs``.

    Of runs of several kinds of machine the prices are those of the kind with the most runs, as their seconds are.
    The floor of a solver with a loop by hand is that loop's: its seconds a step, the median over the solver's runs.
    A run with a kind of calls that has no price has neither.
    """
    found = {}
    for problem, group in runs.groupby("problem", sort=True):
        headers = [records[run].header or {} for run in group["run"]]
        main = group["machine"].mode().min()  # one list of prices, so that equal calls weigh alike
        own = [header for header, kind in zip(headers, group["machine"], strict=True) if kind == main]
        known = _median([header.get("prices") or {} for header in own])
        rows = next((header["problem"].get("n_g") for header in headers if header["problem"].get("n_g")), 1)
        unit = (known[UNIT][0] + known[UNIT][1] * rows if UNIT in known else 0.0) or float("nan")
        found[str(problem)] = Priced(known, unit)
        ends = [records[run].rows[-1] if records[run].rows else {} for run in group["run"]]
        seconds = [floor(known, *(end.get(weight) or {} for weight in ("calls", "rows", "kept"))) for end in ends]
        runs.loc[group.index, "floor_seconds"] = seconds if UNIT in known else np.nan
        by_hand = [(header.get("solver") or {}).get("by_hand") for header in headers]
        steps = [end.get("step", 0) for end in ends]
        loops = pd.Series(by_hand, group.index, float).groupby(group["solver"]).transform("median") * steps
        runs.loc[loops[loops > 0].index, "floor_seconds"] = loops[loops > 0]
        runs.loc[group.index, "grads"] = np.array(seconds) / unit
    return found


def floor(prices: Prices, calls: Mapping[str, Any], rows: Mapping[str, Any], kept: Mapping[str, Any]) -> Any:
    """Seconds that the answers must take, numbers or arrays of them. What has no price: NaN.

    Those that a kept graph gave cost as much as their price beside it, which is nothing where they were known.
    """
    seconds: Any = 0.0
    for kind, n in calls.items():
        if kind in prices:
            share = np.divide(kept.get(kind, 0), np.maximum(n, 1))  # of calls, and so of rows
            for price, part in ((prices[kind], 1 - share), (prices.get(f"kept {kind}", (0.0, 0.0)), share)):
                seconds = seconds + part * (n * price[0] + rows.get(kind, 0) * price[1])
        elif not kind.startswith(FREE):
            return float("nan")
    return seconds


FREE = ("draw_", "project_", "normal", "integer")  # these evaluate none of the functions


def _median(measured: list[dict[str, Any]]) -> Prices:
    kinds = dict.fromkeys(kind for prices in measured for kind in prices)
    return {
        kind: (
            float(np.median([prices[kind][0] for prices in measured if kind in prices])),
            float(np.median([prices[kind][1] for prices in measured if kind in prices])),
        )
        for kind in kinds
    }
