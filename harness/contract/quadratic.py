"""A general quadratic bilevel problem, on which theory says where every solver ends: alone, and as a finite sum.

g = y'Ay/2 - y'(Bx + b) + x'Qx/2,  f = y'Py/2 - p'y + x'Rx/2 - r'x + x'Sy, A positive definite, y*(x) = A^-1 (Bx + b).
The term in Q makes sure that value-function methods cancel the gradient of the pure-x part, S exercises the direct
term.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevelbench.core.draw import Draw
from bilevelbench.core.problem import Problem


@dataclass
class Quadratic:
    """The matrices and vectors, in float64, and what follows from them: y*(x), derivatives, stand-ins for A^-1, x*."""

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

    def columns(self, S: Sequence[int], rho: float) -> Tensor:
        """(C W^-1 C' + rho I)^-1, C the columns S of A, W the rows S of C."""
        C = self.A[:, list(S)]
        return torch.linalg.inv(C @ torch.linalg.solve(C[list(S)], C.T) + rho * torch.eye(len(self.A)).double())

    def lower(self, lr: float, T: int) -> Tensor:
        """y_T, T gradient steps from y0 at x0."""
        best = self.y_star(self.problem.x0)
        return best + self.E(lr, T) @ (self.problem.y0 - best)

    def root(self, gradient: Callable[[Tensor], Tensor], n: int = 0) -> Tensor:
        """The root of an affine map of n variables, those of x if none are named."""
        n = n or len(self.r)
        zero = gradient(torch.zeros(n).double())
        columns = [gradient(e) - zero for e in torch.eye(n).double()]
        return torch.linalg.solve(torch.stack(columns, 1), -zero)

    @property
    def x_star(self) -> Tensor:
        return self.root(self.hypergradient)


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
