"""Finite sums of rank-one quadratics on both levels: the stochastic problem with a closed form."""

from collections.abc import Callable

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem


@problem(
    "finite_sum_quadratic",
    family="quadratics",
    shows="variance: rows of rank one tell variance-reduced methods from plain ones",
)
def finite_sum_quadratic(
    rng: Draw, n: int = 1024, m: int = 1024, d: int = 100, d_x: int = 100, mu: float = 0.1, cross: float = 0.1
) -> Problem:
    """Means of n rows (lower) and m rows (upper) of rank-one quadratics, d lower and d_x upper variables.

    Each level is mean_i 1/2 (h_i'y)^2 + 1/2 (k_i'x)^2 + (l_i'x)(r_i'y) + b_i'y + c_i'x with h = U D u, u ~ N(0, I), U
    orthogonal, D^2 logarithmic from mu to 1; k alike with one direction missing; l = U' E w, r = V w with E from mu to
    ``cross``; b, c ~ N(0, I). x0 = -2, y0 = 0. The construction of benchmark_bilevel's "simulated" (Dagréou et al.,
    NeurIPS 2022), with NumPy's numbers, not jax's, so that a seed is a promise. Factors, never matrices, are kept per
    row. Shows: variance, every row's Hessian has rank one; it separates variance-reduced methods from plain ones.
    """
    if min(n, m, d, d_x) < 2 or not 0 < mu <= 1 or cross < mu:
        raise ValueError("n, m, d and d_x are at least 2, mu is in (0, 1] and cross is at least mu")
    lower, upper = (_Level(rng.child(name), rows, d, d_x, mu, cross) for name, rows in (("lower", n), ("upper", m)))
    B = torch.linalg.solve(lower.A, torch.cat([lower.C.T, lower.b[:, None]], 1))
    J, s = -B[:, :d_x], -B[:, d_x]  # y*(x) = J x + s
    hessian = upper.Q + upper.C @ J + (upper.C @ J).T + J.T @ upper.A @ J
    linear = upper.c + upper.C @ s + J.T @ (upper.A @ s + upper.b)
    convex = float(torch.linalg.eigvalsh(hessian).min()) > 0
    x = torch.linalg.solve(hessian, -linear)
    y = J @ x + s
    best = float(upper.mean(x, y))
    f, g = upper.function(rng), lower.function(rng)
    Jp, sp = rng.put(J, s)
    return Problem(
        f=f,
        g=g,
        x0=torch.full((d_x,), -2.0, dtype=torch.float64),
        y0=torch.zeros(d, dtype=torch.float64),
        n_f=m,
        n_g=n,
        y_star=lambda x: Jp.to(x) @ x + sp.to(x),
        phi_star=best if convex else None,
        phi_star_source="linear solve on the averaged matrices" if convex else "",
        flags=frozenset({"strongly_convex"}),
    )


class _Level:
    """One level: factors per row, and the averaged matrices for questions about all rows."""

    def __init__(self, rng: Draw, rows: int, d: int, d_x: int, mu: float, cross: float) -> None:
        k = min(d, d_x)
        scale = torch.logspace(torch.log10(torch.tensor(mu)).item() / 2, 0, d, dtype=torch.float64)
        scale_x = torch.logspace(torch.log10(torch.tensor(mu)).item() / 2, 0, d_x, dtype=torch.float64)
        scale_x[0] = 0.0  # alone, the upper part is singular
        between = torch.logspace(
            torch.log10(torch.tensor(mu)).item(), torch.log10(torch.tensor(cross)).item(), k, dtype=torch.float64
        )
        U, V, W, Z = (_orthogonal(rng, size) for size in (d, d, d_x, d_x))
        self.h = rng.normal(rows, d) @ (scale[:, None] * U.T)
        self.k = rng.normal(rows, d_x) @ (scale_x[:, None] * W.T)
        w = rng.normal(rows, k)
        self.l = w @ (between[:, None] * Z.T[:k])
        self.r = w @ V.T[:k]
        self.bs, self.cs = rng.normal(rows, d), rng.normal(rows, d_x)
        self.A, self.Q, self.C = self.h.T @ self.h / rows, self.k.T @ self.k / rows, self.l.T @ self.r / rows
        self.b, self.c = self.bs.mean(0), self.cs.mean(0)

    def mean(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y @ self.A @ y + 0.5 * x @ self.Q @ x + x @ self.C @ y + self.b @ y + self.c @ x

    def function(self, rng: Draw) -> Callable[..., Tensor]:
        # Small operations are a minibatch's time: halves go into the factors, and the means of b and c into one vector
        # each, which autograd need not follow.
        h, k = rng.put(self.h * 0.5**0.5, self.k * 0.5**0.5)
        left, r, bs, cs = rng.put(self.l, self.r, self.bs, self.cs)
        A, Q, C, b, c = rng.put(self.A, self.Q, self.C, self.b, self.c)

        def objective(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
            if rows is None:
                return 0.5 * y @ (A @ y) + 0.5 * x @ (Q @ x) + x @ (C @ y) + b @ y + c @ x
            hy, ry = h.index_select(0, rows) @ y, r.index_select(0, rows) @ y
            kx, lx = k.index_select(0, rows) @ x, left.index_select(0, rows) @ x
            linear = bs.index_select(0, rows).mean(0) @ y + cs.index_select(0, rows).mean(0) @ x
            return torch.add(linear, hy @ hy + kx @ kx + lx @ ry, alpha=1 / len(rows))

        return objective


def _orthogonal(rng: Draw, size: int) -> Tensor:
    q, r = torch.linalg.qr(rng.normal(size, size))
    return q * torch.sign(torch.diagonal(r))  # unique, whatever the library
