"""A median that may be looked at after every observation: a confidence sequence by betting on signs.

If the median of what comes next is at most m, whatever came before, then each observation lies above m with probability
at most one half. Who bets on "above" with a share that is drawn evenly from [1/2, 1] then holds, for ever, no more than
he began with in expectation; by Ville's inequality his fortune reaches 1/alpha with probability at most alpha, at any
time. So m is outside the sequence where the fortune against it has. No distribution is assumed and no variance is
estimated: outliers of a busy machine are worth a sign each. Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting", JRSS B 2024; Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 2022.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import betaln
from scipy.stats import beta


class Interval(NamedTuple):
    """A median, and the bounds that hold at all times together but with probability alpha."""

    median: float
    low: float
    high: float


def fortune(above: int, count: int) -> float:
    """The logarithm of what the bettor holds after so many observations, of which so many were above."""
    mixed = betaln(above + 1, count - above + 1) + beta.logsf(0.5, above + 1, count - above + 1)
    return float((count + 1) * math.log(2) + mixed)


@functools.lru_cache(maxsize=4096)
def needed(count: int, alpha: float) -> int:
    """How many of so many observations must lie on one side of a value to exclude it; count + 1 where none suffice."""
    low, high = count // 2, count + 1
    while low < high:  # the fortune grows with what is above
        middle = (low + high) // 2
        low, high = (low, middle) if fortune(middle, count) >= math.log(2 / alpha) else (middle + 1, high)
    return low


def median(values: Sequence[float], alpha: float) -> Interval:
    """The median of observations so far, within the confidence sequence of level 1 - alpha."""
    ordered, count = sorted(values), len(values)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2 if count else math.nan
    must = needed(count, alpha)
    if must > count:
        return Interval(middle, -math.inf, math.inf)
    return Interval(middle, ordered[count - must], ordered[must - 1])
