"""What counts as reproduced: a measured figure with its interval against a band, and many of them as one verdict.

A cell *holds* where the 95 % interval of its mean over seeds lies within the band, and *fails* where the interval has
no point in common with it; anything else is *open*. One of ``among`` cells fails only where the interval of the level
1 - 0.05 / among says so (Bonferroni), since one failure refutes the whole claim; that all hold needs no such care.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
LEAST = 3  # seeds without which there is no interval; with so few Student's is wide by itself

HOLDS, FAILS, OPEN, MISSING, UNSUPPORTED, SHOWN = "holds", "fails", "open", "not run", "unsupported", "shown"
VERDICTS = {
    "published": ("reproduced", "refuted", "not reproduced"),
    "quick": ("agrees so far", "disagrees", "cannot tell"),
}
NOT_RUN, PART, OUT = "not run", "not finished", "out of reach"


class Interval(NamedTuple):
    """A mean and the interval that it is known to; both ends NaN where there is none."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float], fixed: bool = False, level: float = LEVEL) -> Interval:
    """Student's interval of the mean over seeds. ``fixed``: the seed changes nothing, so the figure is a point."""
    found = np.asarray(values, float)
    if not len(found):
        return Interval(math.nan, math.nan, math.nan)
    mean = float(found.mean())
    if fixed or (len(found) >= LEAST and np.ptp(found) == 0):
        return Interval(mean, mean, mean)
    if len(found) < LEAST or not np.isfinite(found).all():
        return Interval(mean, math.nan, math.nan)
    reach = float(stats.t.ppf(0.5 + level / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Interval(mean, mean - reach, mean + reach)


def ruling(values: Sequence[float], band: tuple[float, float], fixed: bool = False, among: int = 1) -> str:
    """Whether a figure holds, fails, or leaves it open. ``among``: how many cells the claim has."""
    low, high = band
    inner = interval(values, fixed)
    outer = interval(values, fixed, 1 - (1 - LEVEL) / max(1, among))
    if low <= inner.low and inner.high <= high:
        return HOLDS
    if outer.high < low or outer.low > high:
        return FAILS
    return OPEN


def verdict(rulings: Sequence[str], scale: str, stands_for: bool = False) -> str:
    """Of a claim's judged cells: one failure refutes it, and it is reproduced where all hold. Without a failure nothing
    is said of it until all cells have been run.

    At the scale ``quick``, and for what stands in for a claim on other data, the words are weaker.
    """
    judged = [one for one in rulings if one != SHOWN]
    good, bad, unsure = VERDICTS["quick" if stands_for else scale]
    if FAILS in judged:
        return bad
    if UNSUPPORTED in judged and set(judged) <= {UNSUPPORTED, MISSING}:
        return OUT
    if MISSING in judged or not judged:
        return PART if set(judged) - {MISSING, UNSUPPORTED} else NOT_RUN
    return good if set(judged) == {HOLDS} else unsure
