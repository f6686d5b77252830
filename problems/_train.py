"""Training to convergence, outside the benchmark: reference lines, and starts that a protocol wants trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from ._networks import CLASSES, Network

CHUNK = 5000  # rows at a time: the memory of a convolution
GTOL = 1e-7  # largest entry of the gradient


class Scaled:
    """Softmax regression in coordinates z in which its Hessian is near the identity: y = to_y(z).

    The Hessian is at most (and, while the classes are even, about) the rows' second moments over the number of
    classes, plus the decay; with R the weights of a class, z is R times the Cholesky factor of that. Without it
    L-BFGS takes a thousand steps on standardised pixels.
    """

    def __init__(self, network: Network, inputs: np.ndarray, weights: np.ndarray, decay: float) -> None:
        self.tied = network.tied
        rows = inputs.copy() if self.tied else np.hstack([inputs, np.ones((len(inputs), 1))])
        if self.tied:
            rows[:, -1] += 1  # the last pixel's weight is the bias as well
        moments = (weights[:, None] * rows).T @ rows / (len(rows) * CLASSES)
        moments[np.diag_indices_from(moments)] += 2 * decay + 1e-6 * (1 + moments.trace() / len(moments))
        self.factor = cholesky(moments, lower=True)

    def _rows(self, y: np.ndarray) -> np.ndarray:
        n = len(self.factor)
        if self.tied:
            return y.reshape(CLASSES, n)
        return np.hstack([y[:-CLASSES].reshape(CLASSES, n - 1), y[-CLASSES:, None]])

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        return rows.ravel() if self.tied else np.concatenate([rows[:, :-1].ravel(), rows[:, -1]])

    def from_y(self, y: np.ndarray) -> np.ndarray:
        """The inverse of ``to_y``."""
        return (self._rows(y) @ self.factor).ravel()

    def to_y(self, z: np.ndarray) -> np.ndarray:
        """Weights and biases, flat."""
        rows = solve_triangular(self.factor, z.reshape(CLASSES, -1).T, lower=True, trans="T").T
        return self._flat(rows)

    def gradient(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient in z from the one in y."""
        return solve_triangular(self.factor, self._rows(gradient).T, lower=True).T.ravel()


class Plain:
    """y itself, for networks."""

    @staticmethod
    def same(y: np.ndarray) -> np.ndarray:
        """y."""
        return y

    from_y = to_y = gradient = same


def classifier(
    network: Network, start: Tensor, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, decay: float,
    maxiter: int = 5000, gtol: float = GTOL,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """argmin_y mean_i weights_i CE(network(y, a_i), t_i) + decay |y|^2 by L-BFGS in float64, and how well it is met.

    With a nonconvex network it is the stationary point that is reached from ``start``. The second answer has the
    largest entry of the gradient and the iterations.
    """
    a, t, w = torch.from_numpy(inputs), torch.from_numpy(labels), torch.from_numpy(weights / len(labels))
    # Without decay many W are as good, and scaled coordinates lead to one that generalises badly: too easy to beat.
    by = Scaled(network, inputs, weights, decay) if network.kind == "linear" and decay else Plain
    largest = np.inf

    def fun(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal largest
        vector = by.to_y(z)
        y = torch.from_numpy(vector).requires_grad_()
        value, gradient = float(decay * vector @ vector), torch.from_numpy(2 * decay * vector)
        for k in range(0, len(t), CHUNK):
            part = slice(k, k + CHUNK)
            loss = w[part] @ cross_entropy(network(y, a[part]), t[part], reduction="none")
            gradient = gradient + torch.autograd.grad(loss, y)[0]
            value += float(loss.detach())
        largest = float(gradient.abs().max())
        return value, by.gradient(gradient.numpy())

    def enough(_: Any) -> None:
        if largest <= gtol:
            raise StopIteration

    with torch.enable_grad():
        options = {"maxiter": maxiter, "maxfun": 10 * maxiter, "gtol": 0.0, "ftol": 0.0, "maxcor": 20}
        found = minimize(fun, by.from_y(start.numpy()), jac=True, method="L-BFGS-B", options=options, callback=enough)
        fun(found.x)
    return torch.from_numpy(by.to_y(found.x)), {"largest gradient": largest, "iterations": found.nit}


def score(network: Network, y: Tensor, inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy and share of hits."""
    logits = torch.cat([network(y, torch.from_numpy(inputs[k : k + CHUNK])) for k in range(0, len(labels), CHUNK)])
    return float(cross_entropy(logits, torch.from_numpy(labels))), float((logits.argmax(1).numpy() == labels).mean())
