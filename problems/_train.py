"""Training to convergence, outside the benchmark: reference lines, and starts that a protocol wants trained."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

CHUNK = 5000  # rows at a time: the memory of a convolution
GTOL = 1e-7  # largest entry of the gradient


def classifier(
    network: Callable[[Tensor, Tensor], Tensor], start: Tensor, inputs: np.ndarray, labels: np.ndarray,
    weights: np.ndarray, decay: float, maxiter: int = 5000, gtol: float = GTOL,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """argmin_y mean_i weights_i CE(network(y, a_i), t_i) + decay |y|^2 by L-BFGS in float64, and how well it is met.

    With a nonconvex network it is the stationary point that is reached from ``start``. The second answer has the
    largest entry of the gradient and the iterations.
    """
    a, t, w = torch.from_numpy(inputs), torch.from_numpy(labels), torch.from_numpy(weights / len(labels))

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        y = torch.from_numpy(vector).requires_grad_()
        value, gradient = float(decay * vector @ vector), torch.from_numpy(2 * decay * vector)
        for k in range(0, len(t), CHUNK):
            part = slice(k, k + CHUNK)
            loss = w[part] @ cross_entropy(network(y, a[part]), t[part], reduction="none")
            gradient = gradient + torch.autograd.grad(loss, y)[0]
            value += float(loss.detach())
        return value, gradient.numpy()

    with torch.enable_grad():
        options = {"maxiter": maxiter, "maxfun": 10 * maxiter, "gtol": gtol, "ftol": 0.0}
        found = minimize(fun, start.numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x), {"largest gradient": float(np.abs(found.jac).max()), "iterations": found.nit}


def score(
    network: Callable[[Tensor, Tensor], Tensor], y: Tensor, inputs: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Mean cross-entropy and share of hits."""
    logits = torch.cat([network(y, torch.from_numpy(inputs[k : k + CHUNK])) for k in range(0, len(labels), CHUNK)])
    loss = float(cross_entropy(logits, torch.from_numpy(labels)))
    assert math.isfinite(loss)
    return loss, float((logits.argmax(1).numpy() == labels).mean())
