"""Where theory says that methods end on a ``Quadratic``, bias included: the x of each limit, (n_x,).

Most are the root of an affine map; what solvers claim of themselves in these words is in ``claims``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .quadratic import Quadratic


def minimiser(q: Quadratic, phi: Callable[[Tensor], Tensor], n: int = 0) -> Tensor:
    """The stationary point of a quadratic function of n variables, those of x if none are named."""

    def gradient(x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(phi(leaf), leaf)[0]

    return q.root(gradient, n)


def W(q: Quadratic, M: Tensor) -> Tensor:
    """The limit of a method that tracks y*(x) and uses M in place of A^-1."""
    return q.root(lambda x: q.fx(x, q.y_star(x)) + q.B.T @ M @ q.fy(x, q.y_star(x)))


# -- a lower loop that starts at y0 again in each step


def cold(q: Quadratic, lr: float, T: int) -> Tensor:
    """argmin f(x, y_T(x)) with y_T from T steps at y0."""
    E, y0 = q.E(lr, T), q.problem.y0
    return minimiser(q, lambda x: q.problem.f(x, q.y_star(x) + E @ (y0 - q.y_star(x))))


def cold_cut(q: Quadratic, lr: float, T: int, K: int) -> Tensor:
    """Where the last K of T steps at y0 are differentiated: root of df/dx + B'A^-1 (I - E^K) df/dy at y_T(x)."""
    E, M, y0 = q.E(lr, T), q.truncated(lr, min(K, T)), q.problem.y0

    def gradient(x: Tensor) -> Tensor:
        y = q.y_star(x) + E @ (y0 - q.y_star(x))
        return q.fx(x, y) + q.B.T @ M @ q.fy(x, y)

    return q.root(gradient)


def aggregated(q: Quadratic, weights: Sequence[tuple[float, float]]) -> Tensor:
    """argmin f(x, y_T(x)), y_T from steps at y0 along on_f df/dy + on_g dg/dy, a pair (on_f, on_g) for each."""

    def phi(x: Tensor) -> Tensor:
        y = q.problem.y0
        for on_f, on_g in weights:
            y = y - on_f * q.fy(x, y) - on_g * (q.A @ y - q.B @ x - q.b)
        return q.problem.f(x, y)

    return minimiser(q, phi)


def pessimistic(q: Quadratic, lr: float, T: int, free: bool) -> Tensor:
    """argmin of max f(x, y_t) over t = 1..T, y_t from t steps at y0, or at a start that is minimised over if free.

    Only where that is the minimiser for one t; elsewhere several meet there.
    """
    problem, n = q.problem, len(q.r)

    def phi(t: int, point: Tensor) -> Tensor:
        x, start = point[:n], point[n:] if free else problem.y0
        return problem.f(x, q.y_star(x) + q.E(lr, t) @ (start - q.y_star(x)))

    steps = range(1, T + 1)
    for t in steps:
        end = minimiser(q, partial(phi, t), n + free * len(q.p))
        if all(float(phi(other, end)) <= float(phi(t, end)) for other in steps):
            return end[:n]
    raise AssertionError("several steps meet at the minimiser")


# -- penalties, at a fixed weight


def bias(q: Quadratic, x: Tensor, N: Tensor, c: float) -> Tensor:
    """Gradient of the penalised value function, penalty c/2 (y - y*)'N(y - y*), minus the hypergradient."""
    inner = torch.linalg.solve(q.P + c * N, q.fy(x, q.y_star(x)))
    return -(q.S + q.J.T @ q.P) @ inner


def penalised(q: Quadratic, N: Tensor, c: float) -> Tensor:
    return q.root(lambda x: q.hypergradient(x) + bias(q, x, N, c))


def moreau(q: Quadratic, tau: float) -> Tensor:
    """tau A^2 (I + tau A)^-1, N of the gap between g and its Moreau envelope min_z g(x, z) + |z - y|^2/(2 tau)."""
    eye = torch.eye(len(q.A)).double()
    return torch.linalg.solve(eye + tau * q.A, tau * q.A @ q.A)


def averaged(q: Quadratic, mu: float) -> Tensor:
    """argmin f(x, y(x)), y(x) the minimiser of mu f + (1 - mu) g in y."""

    def phi(x: Tensor) -> Tensor:
        right = mu * (q.p - q.S.T @ x) + (1 - mu) * (q.B @ x + q.b)
        return q.problem.f(x, torch.linalg.solve(mu * q.P + (1 - mu) * q.A, right))

    return minimiser(q, phi)


def central(q: Quadratic, lam: float) -> Tensor:
    """Root of d/dx of [l(nu) - l(-nu)]/(2 nu), l(nu) = min_y g + nu f, nu = 1/lam."""
    nu = 1.0 / lam

    def inner(x: Tensor, sign: float) -> Tensor:
        y = torch.linalg.solve(q.A + sign * nu * q.P, q.B @ x + q.b + sign * nu * (q.p - q.S.T @ x))
        return q.Q @ x - q.B.T @ y + sign * nu * q.fx(x, y)

    return q.root(lambda x: (inner(x, 1.0) - inner(x, -1.0)) / (2 * nu))


def direct(q: Quadratic, gamma: float) -> Tensor:
    """Where df/dx vanishes along argmin f/gamma + g."""

    def gradient(x: Tensor) -> Tensor:
        best = q.y_star(x)
        return q.fx(x, best - torch.linalg.solve(q.P + gamma * q.A, q.fy(x, best)))

    return q.root(gradient)


def value_penalised(q: Quadratic, sigma: float, mu: float, theta: float) -> Tensor:
    """Where f + theta/2 |y|^2 + sigma/2 max(0, g - min_z (g + mu/2 |z|^2))^2 is stationary in (x, y), by Newton."""
    problem, n, shifted = q.problem, len(q.r), q.A + mu * torch.eye(len(q.A)).double()

    def phi(point: Tensor) -> Tensor:
        x, y = point[:n], point[n:]
        z = torch.linalg.solve(shifted, q.B @ x + q.b)
        gap = problem.g(x, y) - problem.g(x, z) - 0.5 * mu * z @ z
        return problem.f(x, y) + 0.5 * theta * y @ y + 0.5 * sigma * torch.relu(gap) ** 2

    # Begin where the penalty's weight sigma gap is what the weight c of a fixed penalty would be, gap = O(1/c^2).
    x = penalised(q, q.A, (sigma / 2) ** (1 / 3))
    y = q.y_star(x) - torch.linalg.solve(q.P + (sigma / 2) ** (1 / 3) * q.A, q.fy(x, q.y_star(x)))
    point = torch.cat([x, y])
    for _ in range(100):
        leaf = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(phi(leaf), leaf)
        step = torch.linalg.solve(torch.autograd.functional.hessian(phi, point), gradient)
        point = point - step
        if float(step.norm()) < 1e-13:
            return point[:n]
    raise AssertionError("Newton's method does not settle")


def helped(q: Quadratic, gamma: float, lam: float) -> Tensor:
    """Where Penalty ends at fixed gamma and lambda. Only the steps on y know lambda g, so no function is descended.

    At its y the implicit formula has (A + lambda/gamma I)^-1 for A^-1; lambda = 0 is ``penalised(q, A^2, gamma)``.
    """
    A = q.A

    def gradient(x: Tensor) -> Tensor:
        best = q.y_star(x)
        d = -torch.linalg.solve(q.P + gamma * A @ A + lam * A, q.fy(x, best))
        return q.fx(x, best + d) - gamma * q.B.T @ A @ d

    return q.root(gradient)
