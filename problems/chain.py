"""A chain: information moves one coordinate per product with the lower Hessian."""

import torch

from bilevelbench import Draw, Problem, problem


@problem("chain", family="quadratics", shows="a chain: with k Hessian products a step is blind beyond coordinate k")
def chain(rng: Draw, d: int = 200, kappa: float = 100.0, mu: float = 0.1) -> Problem:
    """The worst case for methods that see the lower level through products with its Hessian.

    g = 1/2 y'Ay - y'x,  f = 1/2 |y - e_1|^2 + mu/2 |x|^2,  A = (1 - 1/kappa)/4 T + I/kappa, T = tridiag(-1, 2, -1): the
    eigenvalues of A lie between 1/kappa and 1. From x0 = y0 = 0 k products reach k coordinates; all later ones stay
    zero. After Nesterov's lower bound; for bilevel problems Ji, Liang, JMLR 2023 (unverified). Phi is quadratic, x*
    solves (A^-2 + mu I) x = A^-1 e_1.
    """
    if d < 2 or kappa < 1 or mu <= 0:
        raise ValueError("d is at least 2, kappa at least 1 and mu positive")
    T = (
        2 * torch.eye(d).double()
        - torch.diag(torch.ones(d - 1), 1).double()
        - torch.diag(torch.ones(d - 1), -1).double()
    )
    A64 = (1 - 1 / kappa) / 4 * T + torch.eye(d).double() / kappa
    inverse = torch.linalg.inv(A64)
    e = torch.zeros(d, dtype=torch.float64)
    e[0] = 1.0
    best = torch.linalg.solve(inverse @ inverse + mu * torch.eye(d).double(), inverse @ e)
    gap = inverse @ best - e
    A, A_inv, c = rng.put(A64, inverse, e)
    return Problem(
        f=lambda x, y: 0.5 * (y - c) @ (y - c) + 0.5 * mu * x @ x,
        g=lambda x, y: 0.5 * y @ (A @ y) - y @ x,
        x0=torch.zeros(d, dtype=torch.float64),
        y0=torch.zeros(d, dtype=torch.float64),
        y_star=lambda x: A_inv.to(x) @ x,
        phi_star=float(0.5 * gap @ gap + 0.5 * mu * best @ best),
        phi_star_source="linear solve: (A^-2 + mu I) x* = A^-1 e_1",
        flags=frozenset({"strongly_convex"}),
        seeded=False,
    )
