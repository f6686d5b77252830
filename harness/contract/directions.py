"""The direction of a method's first step on a ``Quadratic``, from (x0, y0) to the x of the next: (n_x,)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from .quadratic import Quadratic


def unrolled(q: Quadratic, lr: float, T: int) -> Tensor:
    """The gradient of x -> f(x, y_T(x)) at x0."""
    x, y = q.problem.x0, q.lower(lr, T)
    return q.fx(x, y) + q.B.T @ q.truncated(lr, T) @ q.fy(x, y)


def series(q: Quadratic, lr: float, T: int, eta: float, K: int) -> Tensor:
    """df/dx - C v at (x0, y_T), v of a Neumann series with K terms."""
    x, y = q.problem.x0, q.lower(lr, T)
    return q.fx(x, y) + q.B.T @ q.truncated(eta, K) @ q.fy(x, y)


def mean_of_columns(q: Quadratic, lr: float, T: int, K: int, rho: float) -> Tensor:
    """df/dx - C v at (x0, y_T), v the mean over all choices of K columns of what ``columns`` makes of df/dy."""
    x, y, n = q.problem.x0, q.lower(lr, T), len(q.p)
    inverses = [q.columns(S, rho) for S in combinations(range(n), min(K, n))]
    return q.fx(x, y) + q.B.T @ torch.stack(inverses).mean(0) @ q.fy(x, y)


def adapted(q: Quadratic, lr: float, T: int, beta: float) -> Tensor:
    """df/dx - C D df/dy at (x0, y_T), T steps of Adam from y0 and D the derivative of the last in its gradient."""
    x, y = q.problem.x0, q.problem.y0
    first = second = displacement = torch.zeros_like(y)
    for t in range(1, T + 1):
        gradient = (q.A @ y - q.B @ x - q.b).requires_grad_()
        m = beta * first + (1 - beta) * gradient
        v = 0.999 * second + 0.001 * gradient**2
        displacement = lr * (m / (1 - beta**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        (D,) = torch.autograd.grad(displacement.sum(), gradient)
        y, first, second = y - displacement.detach(), m.detach(), v.detach()
    return q.fx(x, y) + q.B.T @ (D * q.fy(x, y))
