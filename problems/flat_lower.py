"""A lower level that is merely convex, linear along some coordinates: bounded answers jump with the sign of x."""

import torch

from bilevelbench import Draw, Problem, box, problem


@problem("flat_lower", family="multi_valued", shows="linear directions below: y runs to a bound as soon as x leaves 0")
def flat_lower(rng: Draw, d: int = 4, flat: int = 2, bound: float = 10.0) -> Problem:
    """d curved and ``flat`` linear coordinates below, after the BAMM family (Liu, Liu, Yao, Zeng, Zhang, ICML 2023).

    g = 1/2 y'Ay - x'y with A = blockdiag(A1, 0), y in [-bound, bound]^(d + flat),  f = 1/2 |x - z|^2 + 1/2 |y|^2, z =
    (z1, 0). On the curved block y* = A1^-1 x and x* = (I + A1^-2)^-1 z1, small enough to lie inside the bounds; on
    the flat block y* = bound sign(x), so Phi jumps by bound^2/2 and x* = 0 with the optimistic y = 0. The constants
    are ours. Shows: first-order methods run to the bound along flat coordinates as soon as x leaves 0.
    """
    if d < 1 or flat < 1 or bound <= 0:
        raise ValueError("d and flat are at least 1 and bound is positive")
    half = rng.normal(d, d) / d**0.5
    A1 = half @ half.T + torch.eye(d).double()
    z1 = rng.normal(d)
    inverse = torch.linalg.inv(A1)
    best = torch.linalg.solve(torch.eye(d).double() + inverse @ inverse, z1)
    y_best = inverse @ best
    if float(y_best.abs().max()) > bound:
        raise ValueError(f"bound={bound} is too small: y* reaches {float(y_best.abs().max()):.3g}")
    A, z, A_inv = rng.put(A1, torch.cat([z1, torch.zeros(flat).double()]), inverse)

    def optimistic(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([_box_quadratic(A, A_inv, x[:d], bound), bound * torch.sign(x[d:])])

    return Problem(
        f=lambda x, y: 0.5 * (x - z) @ (x - z) + 0.5 * y @ y,
        g=lambda x, y: 0.5 * y[:d] @ (A @ y[:d]) - x @ y,
        x0=torch.ones(d + flat, dtype=torch.float64),
        y0=torch.zeros(d + flat, dtype=torch.float64),
        y_star=optimistic,
        phi_star=float(0.5 * (best - z1) @ (best - z1) + 0.5 * y_best @ y_best),
        phi_star_source="closed form: (I + A1^-2) x* = z1 on the curved block, 0 on the flat one",
        project_y=box(-bound, bound),
        flags=frozenset({"convex", "multi_valued", "discontinuous"}),
        selection="optimistic: the shortest y where x vanishes on the flat block, in closed form",
    )


def _box_quadratic(A: torch.Tensor, A_inv: torch.Tensor, x: torch.Tensor, bound: float) -> torch.Tensor:
    """argmin y'Ay/2 - x'y on the box: the free solution where it is inside, else by projected coordinate descent."""
    A, y = A.to(x), A_inv.to(x) @ x
    if bool((y.abs() <= bound).all()):
        return y
    point = y.detach().clamp(-bound, bound)
    for _ in range(200):
        for i in range(len(point)):
            point[i] = ((x[i].detach() - A[i] @ point + A[i, i] * point[i]) / A[i, i]).clamp(-bound, bound)
    return point
