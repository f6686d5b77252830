"""Shares with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST = 5  # with fewer runs there are points and no intervals
RESAMPLES = 2000


def share_interval(strata: Sequence[np.ndarray], level: float = 0.95) -> tuple[float, float] | None:
    """Bootstrap interval (percentile) of the mean over strata of the mean within each, resampled within the strata.

    A stratum is one problem, its numbers are the shares of its runs. A single number stands for a problem on which the
    seed changes nothing and is kept as it is. None where any other stratum has fewer than five runs. The numbers are
    those of ``scipy.stats.bootstrap(..., method="percentile", rng=0)``, without its import, which takes a second.
    """
    random = [np.asarray(s, float) for s in strata if len(s) > 1]
    if not random or any(len(s) < LEAST for s in random):
        return None
    fixed = sum(float(s[0]) for s in strata if len(s) == 1)
    rng = np.random.default_rng(0)
    total = sum(s[rng.integers(0, len(s), (RESAMPLES, len(s)))].mean(1) for s in random) + fixed
    low, high = np.percentile(total / len(strata), [50 - 50 * level, 50 + 50 * level])
    return float(low), float(high)
