"""BOME with the constants of its authors' scripts."""

from typing import Literal

from bilevelbench import solver
from bilevelbench.core.outer import Update

from .bome import BOME


@solver("bome_released")
class BOMEReleased(BOME):
    """BOME as released: hyper-cleaning in the authors' code (hpo/data_cleaning.py), which differs from Algorithm 1.

    lambda = max((eta q - <grad f, grad q>) / (|grad q|^2 + 1e-8), 0), that is phi = eta q; heavy ball with 0.9 on both
    levels; a step of 0.01 on y and in the inner loop, one of {10, 50, 100, 500, 1000} on x (100 here), no momentum in
    the inner loop; T in {1, 5, 10, 20}. Their toys run ``bome(eps=1e-4)`` on the coreset and ``bome(eps=1e-8)``
    elsewhere, with T, lr and lr_inner of each problem.
    Momentum and eps add to the floor that BOME has of O(lr), eps one that stays as lr falls, so no limit is claimed.
    """

    lr: float = 100.0
    lr_y: float | None = 0.01
    lr_inner: float = 0.01
    eta: float = 0.1
    phi: Literal["norm", "gap"] = "gap"
    eps: float = 1e-8
    update: Update = "heavy_ball"

    certificate = "none"
