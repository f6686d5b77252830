"""A lower level that satisfies the PL inequality and is not convex; Phi has three local minima."""

import math

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem


@problem("pl_sine", family="nonconvex", shows="several minima of Phi; those of a weak penalty are elsewhere")
def pl_sine(rng: Draw, x0: float | None = None, y0: float | None = None) -> Problem:
    """The numerical example of V-PBGD (Shen, Chen, ICML 2023), x in [0, 3], y in R.

    g = (x + y)^2 + x sin^2(x + y),  f = cos(4y + 2) / (1 + exp(2 - 4x)) + 1/2 log((4x - 2)^2 + 1). argmin g = {-x},
    so Phi(x) = cos(2 - 4x) / (1 + exp(2 - 4x)) + 1/2 log((4x - 2)^2 + 1), with three local minima on [0, 3]. The
    start is uniform, x in [0, 3] (theirs: to 3.5), y in [-5, 8.5], unless given. (The authors' script has a slip in its
    hand-written df/dx; here torch differentiates.) Shows: which minimum a solver finds depends on the start; at a small
    penalty the minima of the penalised problem are elsewhere. Phi* by a grid of 30001 points and Newton's method.
    """
    start = rng.uniform(0, 1, 2)
    begin_x = float(3 * start[0]) if x0 is None else x0
    begin_y = float(-5 + 13.5 * start[1]) if y0 is None else y0
    if not 0 <= begin_x <= 3:
        raise ValueError(f"x0={x0} lies outside [0, 3]")

    def f(x: Tensor, y: Tensor) -> Tensor:
        return (torch.cos(4 * y + 2) * torch.sigmoid(4 * x - 2) + 0.5 * torch.log((4 * x - 2) ** 2 + 1)).sum()

    def g(x: Tensor, y: Tensor) -> Tensor:
        return ((x + y) ** 2 + x * torch.sin(x + y) ** 2).sum()

    return Problem(
        f=f,
        g=g,
        x0=torch.tensor([begin_x], dtype=torch.float64),
        y0=torch.tensor([begin_y], dtype=torch.float64),
        y_star=lambda x: -x,
        phi_star=_optimum(),
        phi_star_source="grid of 30001 points on [0, 3], then Newton on the closed form",
        project_x=lambda x: torch.clamp(x, 0.0, 3.0),
        flags=frozenset({"pl", "nonconvex"}),
        seeded=x0 is None or y0 is None,
    )


def _optimum() -> float:
    """The least Phi on [0, 3]; the minimum lies inside."""

    def phi(x: Tensor) -> Tensor:
        return torch.cos(2 - 4 * x) * torch.sigmoid(4 * x - 2) + 0.5 * torch.log((4 * x - 2) ** 2 + 1)

    grid = torch.linspace(0, 3, 30001, dtype=torch.float64)
    x = grid[phi(grid).argmin()].clone().requires_grad_()
    for _ in range(6):
        (slope,) = torch.autograd.grad(phi(x), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, x)
        x = (x - slope / curvature).detach().requires_grad_()
    value = float(phi(x.detach()))
    assert math.isfinite(value)
    return value
