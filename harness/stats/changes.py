"""Where a figure changed over commits: parts of least squared error, by optimal partitioning.

Jackson et al., IEEE Signal Processing Letters 12, 2005. PELT (Killick, Fearnhead, Eckley, JASA 2012) finds the same.

On logarithms, so that a change is a ratio; the penalty is in units of the figure's own noise from commit to commit, so
that what is exact shows every change, and what is not only those that stand out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PENALTY = 8.0  # times the variance of the noise and the logarithm of how many points there are: 0 of 150 by chance
QUIET = 0.002  # standard deviation of logarithms, below which figures count as exact
LEAST = {"exact": 1, "noisy": 2}  # points between changes


class Change(NamedTuple):
    """Between the points at ``place - 1`` and ``place``: later over earlier, and the range (95 %, bootstrap) of it."""

    place: int
    ratio: float
    low: float
    high: float


def noise(logs: np.ndarray) -> float:
    """Standard deviation from one point to the next, by medians: a few changes do not count."""
    steps = np.abs(np.diff(logs))
    return float(1.4826 * np.median(steps) / np.sqrt(2)) if len(steps) else 0.0


def changes(values: np.ndarray, least: float = 0.02) -> list[Change]:
    """The changes of positive figures, in order; those smaller than ``least`` are left out."""
    kept = np.asarray(values, float)
    if len(kept) < 2 or not (np.isfinite(kept).all() and (kept > 0).all()):
        return []
    logs = np.log(kept)
    spread = max(noise(logs), QUIET)
    size = LEAST["exact" if spread == QUIET else "noisy"]
    if len(logs) < 2 * size:
        return []
    cuts = [0, *_ends(logs, size, PENALTY * spread**2 * np.log(len(logs)))]
    found = []
    for before, place, after in zip(cuts, cuts[1:], cuts[2:], strict=False):
        change = Change(place, *_ratio(logs[before:place], logs[place:after]))
        if abs(np.log(change.ratio)) >= np.log1p(least):
            found.append(change)
    return found


def _ends(values: np.ndarray, size: int, penalty: float) -> list[int]:
    """Where the parts end that have the least sum of squared errors about their means, and of a penalty for each part.

    No part is shorter than ``size``, of which there is at least one.
    """
    values = values - values.mean()
    sums, squares = np.r_[0.0, values.cumsum()], np.r_[0.0, (values**2).cumsum()]
    cost, begin = np.full(len(sums), np.inf), np.zeros(len(sums), int)
    cost[0] = 0.0
    for end in range(size, len(sums)):
        begins = np.arange(end - size + 1)
        error = squares[end] - squares[begins] - (sums[end] - sums[begins]) ** 2 / (end - begins)
        total = cost[begins] + error + penalty
        begin[end] = total.argmin()
        cost[end] = total[begin[end]]
    ends = [len(values)]
    while begin[ends[0]]:
        ends.insert(0, int(begin[ends[0]]))
    return ends


def _ratio(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Later over earlier, of means of logarithms; the same numbers give the same range."""
    rng = np.random.default_rng(0)
    one, other = (rng.choice(part, (500, len(part))).mean(1) for part in (before, after))
    low, high = np.percentile(other - one, [2.5, 97.5])
    return tuple(float(np.exp(value)) for value in (after.mean() - before.mean(), low, high))  # type: ignore[return-value]
