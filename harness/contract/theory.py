"""A general quadratic bilevel problem and what theory says of every solver's limit on it.

g = y'Ay/2 - y'(Bx + b) + x'Qx/2,  f = y'Py/2 - p'y + x'Rx/2 - r'x + x'Sy, A positive definite, y*(x) = A^-1 (Bx + b).
The term in Q makes sure that value-function methods cancel the gradient of the pure-x part, S exercises the direct
term.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from bilevelbench.core.draw import Draw
from bilevelbench.core.problem import Problem


@dataclass
class Quadratic:
    A: Tensor
    B: Tensor
    b: Tensor
    Q: Tensor
    P: Tensor
    p: Tensor
    R: Tensor
    r: Tensor
    S: Tensor

    @property
    def problem(self) -> Problem:
        A, B, b, Q, P, p, R, r, S = (self.A, self.B, self.b, self.Q, self.P, self.p, self.R, self.r, self.S)
        rng = Draw(11)
        return Problem(
            f=lambda x, y: 0.5 * y @ P @ y - p @ y + 0.5 * x @ R @ x - r @ x + x @ S @ y,
            g=lambda x, y: 0.5 * y @ A @ y - y @ (B @ x + b) + 0.5 * x @ Q @ x,
            x0=rng.normal(len(r)),
            y0=rng.normal(len(p)),
            y_star=self.y_star,
            flags=frozenset({"strongly_convex"}),
        )

    def y_star(self, x: Tensor) -> Tensor:
        return torch.linalg.solve(self.A, self.B @ x + self.b)

    def fx(self, x: Tensor, y: Tensor) -> Tensor:
        return self.R @ x - self.r + self.S @ y

    def fy(self, x: Tensor, y: Tensor) -> Tensor:
        return self.P @ y - self.p + self.S.T @ x

    @property
    def J(self) -> Tensor:
        return torch.linalg.solve(self.A, self.B)

    def hypergradient(self, x: Tensor) -> Tensor:
        y = self.y_star(x)
        return self.fx(x, y) + self.J.T @ self.fy(x, y)

    def E(self, lr: float, power: int) -> Tensor:
        """(I - lr A)^power."""
        return torch.linalg.matrix_power(torch.eye(len(self.A)).double() - lr * self.A, power)

    def truncated(self, lr: float, terms: int) -> Tensor:
        """A^-1 (I - (I - lr A)^terms), the inverse that a series of that many terms stands for."""
        return torch.linalg.solve(self.A, torch.eye(len(self.A)).double() - self.E(lr, terms))

    # -- limits, each the root of an affine map

    def root(self, gradient: Callable[[Tensor], Tensor], n: int = 0) -> Tensor:
        """The root of an affine map of n variables, those of x if none are named."""
        n = n or len(self.r)
        zero = gradient(torch.zeros(n).double())
        columns = [gradient(e) - zero for e in torch.eye(n).double()]
        return torch.linalg.solve(torch.stack(columns, 1), -zero)

    def W(self, M: Tensor) -> Tensor:
        """The limit of a method that tracks y*(x) and uses M in place of A^-1."""
        return self.root(lambda x: self.fx(x, self.y_star(x)) + self.B.T @ M @ self.fy(x, self.y_star(x)))

    @property
    def x_star(self) -> Tensor:
        return self.root(self.hypergradient)

    def minimiser(self, phi: Callable[[Tensor], Tensor], n: int = 0) -> Tensor:
        """The stationary point of a quadratic function of n variables, those of x if none are named."""

        def gradient(x: Tensor) -> Tensor:
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(phi(leaf), leaf)[0]

        return self.root(gradient, n)

    def cold(self, lr: float, T: int) -> Tensor:
        """argmin f(x, y_T(x)) with y_T from T steps at y0."""
        E, y0 = self.E(lr, T), self.problem.y0
        return self.minimiser(lambda x: self.problem.f(x, self.y_star(x) + E @ (y0 - self.y_star(x))))

    def cold_cut(self, lr: float, T: int, K: int) -> Tensor:
        """Where the last K of T steps at y0 are differentiated: root of df/dx + B'A^-1 (I - E^K) df/dy at y_T(x)."""
        E, M, y0 = self.E(lr, T), self.truncated(lr, min(K, T)), self.problem.y0

        def gradient(x: Tensor) -> Tensor:
            y = self.y_star(x) + E @ (y0 - self.y_star(x))
            return self.fx(x, y) + self.B.T @ M @ self.fy(x, y)

        return self.root(gradient)

    def aggregated(self, weights: Sequence[tuple[float, float]]) -> Tensor:
        """argmin f(x, y_T(x)), y_T from steps at y0 along on_f df/dy + on_g dg/dy, a pair (on_f, on_g) for each."""

        def phi(x: Tensor) -> Tensor:
            y = self.problem.y0
            for on_f, on_g in weights:
                y = y - on_f * self.fy(x, y) - on_g * (self.A @ y - self.B @ x - self.b)
            return self.problem.f(x, y)

        return self.minimiser(phi)

    def pessimistic(self, lr: float, T: int, free: bool) -> Tensor:
        """argmin of max f(x, y_t) over t = 1..T, y_t from t steps at y0, or at a start that is minimised over if free.

        Only where that is the minimiser for one t; elsewhere several meet there.
        """
        problem, n = self.problem, len(self.r)

        def phi(t: int, point: Tensor) -> Tensor:
            x, start = point[:n], point[n:] if free else problem.y0
            return problem.f(x, self.y_star(x) + self.E(lr, t) @ (start - self.y_star(x)))

        steps = range(1, T + 1)
        for t in steps:
            end = self.minimiser(partial(phi, t), n + free * len(self.p))
            if all(float(phi(other, end)) <= float(phi(t, end)) for other in steps):
                return end[:n]
        raise AssertionError("several steps meet at the minimiser")

    def bias(self, x: Tensor, N: Tensor, c: float) -> Tensor:
        """Gradient of the penalised value function, penalty c/2 (y - y*)'N(y - y*), minus the hypergradient."""
        inner = torch.linalg.solve(self.P + c * N, self.fy(x, self.y_star(x)))
        return -(self.S + self.J.T @ self.P) @ inner

    def penalised(self, N: Tensor, c: float) -> Tensor:
        return self.root(lambda x: self.hypergradient(x) + self.bias(x, N, c))

    def moreau(self, tau: float) -> Tensor:
        """tau A^2 (I + tau A)^-1, N of the gap between g and its Moreau envelope min_z g(x, z) + |z - y|^2/(2 tau)."""
        eye = torch.eye(len(self.A)).double()
        return torch.linalg.solve(eye + tau * self.A, tau * self.A @ self.A)

    def averaged(self, mu: float) -> Tensor:
        """argmin f(x, y(x)), y(x) the minimiser of mu f + (1 - mu) g in y."""

        def phi(x: Tensor) -> Tensor:
            right = mu * (self.p - self.S.T @ x) + (1 - mu) * (self.B @ x + self.b)
            return self.problem.f(x, torch.linalg.solve(mu * self.P + (1 - mu) * self.A, right))

        return self.minimiser(phi)

    def columns(self, S: Sequence[int], rho: float) -> Tensor:
        """(C W^-1 C' + rho I)^-1, C the columns S of A, W the rows S of C."""
        C = self.A[:, list(S)]
        return torch.linalg.inv(C @ torch.linalg.solve(C[list(S)], C.T) + rho * torch.eye(len(self.A)).double())

    def central(self, lam: float) -> Tensor:
        """Root of d/dx of [l(nu) - l(-nu)]/(2 nu), l(nu) = min_y g + nu f, nu = 1/lam."""
        nu = 1.0 / lam

        def inner(x: Tensor, sign: float) -> Tensor:
            y = torch.linalg.solve(
                self.A + sign * nu * self.P, self.B @ x + self.b + sign * nu * (self.p - self.S.T @ x)
            )
            return self.Q @ x - self.B.T @ y + sign * nu * self.fx(x, y)

        return self.root(lambda x: (inner(x, 1.0) - inner(x, -1.0)) / (2 * nu))

    def direct(self, gamma: float) -> Tensor:
        """Where df/dx vanishes along argmin f/gamma + g."""

        def gradient(x: Tensor) -> Tensor:
            best = self.y_star(x)
            return self.fx(x, best - torch.linalg.solve(self.P + gamma * self.A, self.fy(x, best)))

        return self.root(gradient)

    def value_penalised(self, sigma: float, mu: float, theta: float) -> Tensor:
        """Where f + theta/2 |y|^2 + sigma/2 max(0, g - min_z (g + mu/2 |z|^2))^2 is stationary in (x, y), by Newton."""
        problem, n, shifted = self.problem, len(self.r), self.A + mu * torch.eye(len(self.A)).double()

        def phi(point: Tensor) -> Tensor:
            x, y = point[:n], point[n:]
            z = torch.linalg.solve(shifted, self.B @ x + self.b)
            gap = problem.g(x, y) - problem.g(x, z) - 0.5 * mu * z @ z
            return problem.f(x, y) + 0.5 * theta * y @ y + 0.5 * sigma * torch.relu(gap) ** 2

        # Begin where the penalty's weight sigma gap is what the weight c of a fixed penalty would be, gap = O(1/c^2).
        x = self.penalised(self.A, (sigma / 2) ** (1 / 3))
        y = self.y_star(x) - torch.linalg.solve(self.P + (sigma / 2) ** (1 / 3) * self.A, self.fy(x, self.y_star(x)))
        point = torch.cat([x, y])
        for _ in range(100):
            leaf = point.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(phi(leaf), leaf)
            step = torch.linalg.solve(torch.autograd.functional.hessian(phi, point), gradient)
            point = point - step
            if float(step.norm()) < 1e-13:
                return point[:n]
        raise AssertionError("Newton's method does not settle")

    # -- directions of the first step, from (x0, y0)

    def unrolled(self, lr: float, T: int) -> Tensor:
        """The gradient of x -> f(x, y_T(x)) at x0."""
        x, y = self.problem.x0, self.lower(lr, T)
        return self.fx(x, y) + self.B.T @ self.truncated(lr, T) @ self.fy(x, y)

    def series(self, lr: float, T: int, eta: float, K: int) -> Tensor:
        """df/dx - C q at (x0, y_T), q of a Neumann series with K terms."""
        x, y = self.problem.x0, self.lower(lr, T)
        return self.fx(x, y) + self.B.T @ self.truncated(eta, K) @ self.fy(x, y)

    def mean_of_columns(self, lr: float, T: int, K: int, rho: float) -> Tensor:
        """df/dx - C q at (x0, y_T), the mean over all choices of K columns of what ``columns`` makes of df/dy."""
        x, y, n = self.problem.x0, self.lower(lr, T), len(self.p)
        inverses = [self.columns(S, rho) for S in combinations(range(n), min(K, n))]
        return self.fx(x, y) + self.B.T @ torch.stack(inverses).mean(0) @ self.fy(x, y)

    def adapted(self, lr: float, T: int, beta: float) -> Tensor:
        """df/dx - C D df/dy at (x0, y_T), T steps of Adam from y0 and D the derivative of the last in its gradient."""
        x, y = self.problem.x0, self.problem.y0
        first = second = displacement = torch.zeros_like(y)
        for t in range(1, T + 1):
            gradient = (self.A @ y - self.B @ x - self.b).requires_grad_()
            m = beta * first + (1 - beta) * gradient
            v = 0.999 * second + 0.001 * gradient**2
            displacement = lr * (m / (1 - beta**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            (D,) = torch.autograd.grad(displacement.sum(), gradient)
            y, first, second = y - displacement.detach(), m.detach(), v.detach()
        return self.fx(x, y) + self.B.T @ (D * self.fy(x, y))

    def lower(self, lr: float, T: int) -> Tensor:
        """y_T, T gradient steps from y0 at x0."""
        best = self.y_star(self.problem.x0)
        return best + self.E(lr, T) @ (self.problem.y0 - best)

    def helped(self, gamma: float, lam: float) -> Tensor:
        """Where Penalty ends at fixed gamma and lambda. Only the steps on y know lambda g, so no function is descended.

        At its y the implicit formula has (A + lambda/gamma I)^-1 for A^-1; lambda = 0 is ``penalised(A^2, gamma)``.
        """
        A = self.A

        def gradient(x: Tensor) -> Tensor:
            best = self.y_star(x)
            d = -torch.linalg.solve(self.P + gamma * A @ A + lam * A, self.fy(x, best))
            return self.fx(x, best + d) - gamma * self.B.T @ A @ d

        return self.root(gradient)


def quadratic(nx: int = 3, ny: int = 4, kappa: float = 4.0, seed: int = 0) -> Quadratic:
    """An instance whose lower Hessian has eigenvalues from 1/kappa to 1 and whose hyper-Hessian is well conditioned."""
    rng = Draw(seed)
    U, _ = torch.linalg.qr(rng.normal(ny, ny))
    eigenvalues = kappa ** -torch.linspace(0, 1, ny).double()
    half = rng.normal(ny, ny) / ny**0.5
    A = U @ torch.diag(eigenvalues) @ U.T
    Q, R = rng.normal(nx, nx), rng.normal(nx, nx) / nx
    return Quadratic(
        A=A,
        B=A @ rng.normal(ny, nx) / (nx + ny) ** 0.5,
        b=A @ rng.normal(ny),
        Q=Q @ Q.T,
        P=half @ half.T + 0.5 * torch.eye(ny),
        p=rng.normal(ny),
        R=R @ R.T + 2.0 * torch.eye(nx),
        r=rng.normal(nx),
        S=0.2 * rng.normal(nx, ny),
    )


def finite_sum(q: Quadratic, n: int = 4, spread: float = 0.2, seed: int = 5) -> Problem:
    """The same quadratics as means over ``n`` rows each, so that minibatches mean something.

    Row i of g has the matrix A + D_i and so on, the D_i summing to zero: all rows together are ``q.problem`` up to
    rounding, and every row of g is strongly convex.
    """
    rng = Draw(seed)

    def rows_of(mean: Tensor, symmetric: bool = False) -> Tensor:
        noise = spread * float(mean.abs().max()) * rng.normal(n, *mean.shape) / mean.shape[-1]
        noise = noise + noise.mT if symmetric else noise
        return mean + noise - noise.mean(0)

    A = rows_of(q.A, symmetric=True)
    while float(torch.linalg.eigvalsh(A).min()) < 0.1 * float(torch.linalg.eigvalsh(q.A).min()):
        A = 0.5 * (A + q.A)  # nearer to the mean, until every row is strongly convex
    B, b, Q, P, p, R, r, S = (
        rows_of(getattr(q, name), name in "QPR") for name in ("B", "b", "Q", "P", "p", "R", "r", "S")
    )

    def pick(stack: Tensor, rows: Tensor | None) -> Tensor:
        return (stack if rows is None else stack[rows]).mean(0)

    def f(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        Pm, pm, Rm, rm, Sm = (pick(stack, rows).to(x) for stack in (P, p, R, r, S))
        return 0.5 * y @ Pm @ y - pm @ y + 0.5 * x @ Rm @ x - rm @ x + x @ Sm @ y

    def g(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        Am, Bm, bm, Qm = (pick(stack, rows).to(x) for stack in (A, B, b, Q))
        return 0.5 * y @ Am @ y - y @ (Bm @ x + bm) + 0.5 * x @ Qm @ x

    return dataclasses.replace(q.problem, f=f, g=g, n_f=n, n_g=n)
