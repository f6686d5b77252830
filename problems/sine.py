"""A sine below: equally deep basins in every coordinate, of which the upper level wants one."""

import math

import torch

from bilevelbench import Draw, Problem, problem


@problem("sine", shows="lower basins of one depth: a local lower solver stays in that of its start")
def sine(rng: Draw, m: int = 1, x0: float = 0.0, y0: float = 0.0, a: float = 2.0, c: float = 2.0) -> Problem:
    """The example of BVFIM (Liu, Liu, Yuan, Zeng, Zhang, ICML 2021), x in R, y in R^m.

    g = sum_i sin(x + y_i - c),  f = (x - a)^2 + |y - a - c|^2. argmin g: y_i = C + c - x with C = -pi/2 + 2 k pi, any
    k in each coordinate. With C the one nearest to 2a, x* = ((1 - m) a + m C)/(1 + m) and Phi* = m (C - 2a)^2 / (1 +
    m). Shows: a local solver of the lower level ends in the basin of its start, and every basin is as deep as
    another.
    """
    if m < 1:
        raise ValueError("m is at least 1")

    def optimistic(x: torch.Tensor) -> torch.Tensor:
        k = torch.round((x.detach() + a + math.pi / 2) / (2 * math.pi))  # C nearest to x + a, where f is least
        return (-math.pi / 2 + 2 * math.pi * k + c - x).expand(m)

    best = -math.pi / 2 + 2 * math.pi * round((2 * a + math.pi / 2) / (2 * math.pi))
    return Problem(
        f=lambda x, y: ((x - a) ** 2).sum() + ((y - a - c) ** 2).sum(),
        g=lambda x, y: torch.sin(x + y - c).sum(),
        x0=torch.tensor([x0], dtype=torch.float64),
        y0=torch.full((m,), y0, dtype=torch.float64),
        y_star=optimistic,
        phi_star=m * (best - 2 * a) ** 2 / (1 + m),
        phi_star_source="closed form: m (C - 2a)^2 / (1 + m), C = -pi/2 + 2 k pi nearest to 2a",
        flags=frozenset({"nonconvex", "multi_valued"}),
        selection="optimistic: the minimiser nearest to a + c in each coordinate, by rounding k",
        seeded=False,
    )
