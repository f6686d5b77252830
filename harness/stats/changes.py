"""Where a figure changed over commits: change points by PELT (Killick, Fearnhead, Eckley, JASA 2012) of ``ruptures``.

On logarithms, so that a change is a ratio; the penalty is in units of the figure's own noise from commit to commit, so
that what is exact shows every change, and what is not only those that stand out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import ruptures

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
    search = ruptures.Pelt(model="l2", min_size=size, jump=1).fit(logs.reshape(-1, 1))
    ends = search.predict(pen=PENALTY * spread**2 * np.log(len(logs)))
    starts = [0, *ends]
    found = []
    for before, place, after in zip(starts, ends[:-1], ends[1:], strict=False):
        change = Change(place, *_ratio(logs[before:place], logs[place:after]))
        if abs(np.log(change.ratio)) >= np.log1p(least):
            found.append(change)
    return found


def _ratio(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Later over earlier, of means of logarithms; the same numbers give the same range."""
    rng = np.random.default_rng(0)
    one, other = (rng.choice(part, (500, len(part))).mean(1) for part in (before, after))
    low, high = np.percentile(other - one, [2.5, 97.5])
    return tuple(float(np.exp(value)) for value in (after.mean() - before.mean(), low, high))  # type: ignore[return-value]
