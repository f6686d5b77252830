"""A sine below, on a box: the solution lies on a bound and the start decides the basin."""

import math

import torch

from bilevelbench import Draw, Problem, box, problem


@problem(
    "bounded_sine",
    family="nonconvex",
    shows="an active bound of y at the solution, and a basin that depends on the start",
)
def bounded_sine(rng: Draw, x0: float = 1.0, y0: float = 2.0) -> Problem:
    """The example of IAPTT-GM (Liu, Liu, Zeng, Zhang, NeurIPS 2021), x in [1, 10], y in [-2, 2].

    g = -sin(xy),  f = x + xy. argmin g: xy = pi/2 + 2 k pi within the box; f wants the least k. Phi* = -11 pi/4 at
    x* = 11 pi/4, y* = -2. Shows: an active bound of y at the solution (no implicit function theorem there), basins that
    depend on the start; learning the lower level's initial point helps.
    """
    if not (1 <= x0 <= 10 and -2 <= y0 <= 2):
        raise ValueError(f"the start ({x0}, {y0}) lies outside [1, 10] x [-2, 2]")

    def optimistic(x: torch.Tensor) -> torch.Tensor:
        k = torch.ceil((-2 * x.detach() - math.pi / 2) / (2 * math.pi) - 1e-12)  # the least with y >= -2
        return (math.pi / 2 + 2 * math.pi * k) / x

    return Problem(
        f=lambda x, y: (x + x * y).sum(),
        g=lambda x, y: -torch.sin(x * y).sum(),
        x0=torch.tensor([x0], dtype=torch.float64),
        y0=torch.tensor([y0], dtype=torch.float64),
        y_star=lambda x: optimistic(x).clamp(-2.0, 2.0),
        phi_star=-11 * math.pi / 4,
        phi_star_source="enumeration of xy = pi/2 + 2 k pi within the box",
        project_x=box(1, 10),
        project_y=box(-2, 2),
        flags=frozenset({"nonconvex", "multi_valued", "boundary", "discontinuous"}),
        selection="optimistic: the least k with y >= -2, since f = x + xy grows with k",
        seeded=False,
    )
