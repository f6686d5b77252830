"""The Penalty method with the constants and the tolerance test of its authors' code."""

from torch import Tensor

from bilevelbench import solver
from bilevelbench.core.outer import Update

from .penalty import Penalty


@solver("penalty_released")
class PenaltyReleased(Penalty):
    """Penalty as released by Mehra and Hamm (optimizers/penalty), with the constants of their synthetic examples.

    Adam on both levels. Their tolerance test squares norms that are squares already, |df~/dx|^4 + |df~/dy|^4 < eps^2,
    which for eps < 1 is met much sooner than Algorithm 2 says, so that gamma grows as their curves need it to; lambda,
    eps and both steps are divided by 1.1 where gamma is multiplied by it. Their test is made at the new x, here at the
    old one, whose gradients are known. A tolerance that is never met leaves gamma where it began.
    """

    lr: float = 1e-3
    lr_inner: float = 1e-4
    gamma: float = 1.0
    lam: float = 10.0
    eps: float = 1.0
    c_eps: float = 1 / 1.1
    c_lam: float = 1 / 1.1
    update: Update = "adam"
    update_y: Update = "adam"

    biased = "Adam's step is no linear function of its minibatch"
    certificate = "none"

    def met(self, square_x: Tensor, square_y: Tensor, eps: Tensor) -> Tensor:
        """Whether the tolerance is met."""
        return square_x**2 + square_y**2 < eps**2
