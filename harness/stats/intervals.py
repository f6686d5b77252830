"""Shares with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap

LEAST = 5  # with fewer runs there are points and no intervals


def share_interval(strata: Sequence[np.ndarray], level: float = 0.95) -> tuple[float, float] | None:
    """Bootstrap interval (percentile) of the mean over strata of the mean within each, resampled within the strata.

    A stratum is one problem, its numbers are the shares of its runs. A single number stands for a problem on which the
    seed changes nothing and is kept as it is. None where any other stratum has fewer than five runs.
    """
    random = [np.asarray(s, float) for s in strata if len(s) > 1]
    if not random or any(len(s) < LEAST for s in random):
        return None
    fixed = sum(float(s[0]) for s in strata if len(s) == 1)

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return (sum(np.mean(s, axis=axis) for s in samples) + fixed) / len(strata)

    if all(np.ptp(s) == 0 for s in random):  # nothing varies
        value = float(statistic(*random))
        return value, value
    found = bootstrap(
        random, statistic, confidence_level=level, method="percentile", n_resamples=2000, paired=False, rng=0
    ).confidence_interval
    return float(found.low), float(found.high)
