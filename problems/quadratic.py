"""A quadratic with a chosen condition number and everything in closed form."""

import torch

from bilevelbench import Draw, Problem, problem


@problem(
    "quadratic",
    family="quadratics",
    shows="ill-conditioning: series need O(kappa) terms, the bias of penalties grows like kappa",
)
def quadratic(rng: Draw, kappa: float = 10.0, d: int = 20, mu: float = 0.1, start: float = 1.0) -> Problem:
    """Both levels quadratic; the lower Hessian has condition number kappa, the hyper-Hessian about kappa squared.

    g = 1/2 y'Ay - y'x,  f = 1/2 |y - c|^2 + mu/2 |x|^2,  A = U diag(a) U' with a_i = kappa^(-(i-1)/(d-1)), c = U 1,
    U the Householder reflection at a random vector. In the rotated frame x*_i = a_i / (1 + mu a_i^2) and
    Phi* = 1/2 sum_i mu a_i^2 / (1 + mu a_i^2). x0 and y0 are normal with standard deviation ``start``.
    Shows: Neumann series need O(kappa) terms, CG O(sqrt kappa); the bias of penalties grows like kappa.
    """
    if kappa < 1 or d < 1 or mu <= 0:
        raise ValueError("kappa and d are at least 1, and mu is positive")
    a = kappa ** -torch.linspace(0, 1, d, dtype=torch.float64)
    u = rng.normal(d)
    U = torch.eye(d, dtype=torch.float64) - 2 * torch.outer(u, u) / (u @ u)
    A, A_inv, c = rng.put(U @ torch.diag(a) @ U, U @ torch.diag(1 / a) @ U, U.sum(1))
    return Problem(
        f=lambda x, y: 0.5 * (y - c) @ (y - c) + 0.5 * mu * x @ x,
        g=lambda x, y: 0.5 * y @ (A @ y) - y @ x,
        x0=start * rng.normal(d),
        y0=start * rng.normal(d),
        y_star=lambda x: A_inv @ x,
        phi_star=float(0.5 * (mu * a**2 / (1 + mu * a**2)).sum()),
        phi_star_source="closed form: 1/2 sum mu a_i^2 / (1 + mu a_i^2)",
        flags=frozenset({"strongly_convex"}),
    )
