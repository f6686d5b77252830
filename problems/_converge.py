"""Reference lines solved to convergence: what a solver is compared with must not depend on anybody's step size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

GTOL = 1e-7


def converge(
    loss: Callable[[Tensor], Tensor], start: Tensor, gtol: float = GTOL, iterations: int = 2000,
    bounds: tuple[float, float] | None = None,
) -> Tensor:  # fmt: skip
    """A local minimiser of ``loss``, shape of ``start``, by L-BFGS in float64 on the CPU.

    ``gtol`` bounds the largest entry of the gradient, projected where all variables lie within ``bounds``.
    """

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(vector).requires_grad_()
        value = loss(point)
        return float(value.detach()), torch.autograd.grad(value, point)[0].numpy()

    options = {"gtol": gtol, "ftol": 0.0, "maxcor": 20, "maxiter": iterations, "maxfun": 2 * iterations}
    with torch.enable_grad():
        found = minimize(
            fun, start.detach().cpu().double().numpy(), jac=True, method="L-BFGS-B", options=options,
            bounds=None if bounds is None else [bounds] * start.numel(),
        )  # fmt: skip
    return torch.from_numpy(found.x)
