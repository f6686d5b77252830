"""A projection on the simplex below: y* is piecewise linear, with a kink wherever an entry reaches 0."""

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem


@problem(
    "simplex_projection", family="constrained", shows="a simplex below: y* has kinks and directions that x cannot move"
)
def simplex_projection(rng: Draw, d: int = 10) -> Problem:
    """g = 1/2 |y - x|^2 on the simplex {y >= 0, 1'y = 1},  f = 1/2 |y - t|^2 with t = e_1 + u, u uniform in [0, 1].

    The bound is one of y, the equality two inequalities in ``h_g``. y*(x) is the projection by sorting (Held, Wolfe,
    Crowder, 1974), its generalised Jacobian the centring matrix on the entries above 0. Phi* = 1/2 |P(t) - t|^2, P the
    projection, attained at x = t and wherever the projection is the same. Entries at 0 do not answer to x: from a
    start that leaves the wrong ones at 0 the hypergradient does not bring them back. x0 is normal, y0 the centre.
    Constructed for this benchmark.
    """
    if d < 2:
        raise ValueError("d is at least 2")
    target = rng.uniform(0, 1, d)
    target[0] += 1
    best = project(target)
    t = rng.put(target)

    def sums_to_one(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y.sum() - 1, 1 - y.sum()])

    return Problem(
        f=lambda x, y: 0.5 * (y - t) @ (y - t),
        g=lambda x, y: 0.5 * (y - x) @ (y - x),
        x0=rng.normal(d),
        y0=torch.full((d,), 1 / d, dtype=torch.float64),
        y_star=project,
        phi_star=float(0.5 * (best - target) @ (best - target)),
        phi_star_source="closed form: half the squared distance of t to the simplex",
        project_y=lambda y: torch.clamp(y, min=0.0),
        h_g=sums_to_one,
        project_xy=lambda x, y: (x, project(y)),
        flags=frozenset({"strongly_convex", "boundary", "kinked"}),
    )


def project(point: Tensor) -> Tensor:
    """The nearest point of the simplex: entries less one number, cut at 0."""
    ordered = point.detach().sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, len(point) + 1).to(point)
    count = int((ordered > excess).sum())
    kept = point.detach() > excess[count - 1]
    return torch.where(kept, point - (point[kept].sum() - 1) / count, torch.zeros_like(point))
