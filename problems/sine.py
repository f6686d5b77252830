"""A sine below: equally deep basins in every coordinate, of which the upper level wants one."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem

from ._start import moved


@problem("sine", family="nonconvex", shows="lower basins of one depth: a local lower solver stays in that of its start")
def sine(
    rng: Draw,
    m: int = 1,
    x0: float = 0.0,
    y0: float = 0.0,
    a: float = 2.0,
    c: float = 2.0,
    constrained: bool = False,
    jitter: float = 0.0,
) -> Problem:
    """The example of BVFIM (Liu, Liu, Yuan, Zeng, Zhang, ICML 2021), x in R, y in R^m.

    g = sum_i sin(x + y_i - c),  f = (x - a)^2 + |y - a - c|^2. argmin g: y_i = C + c - x with C = -pi/2 + 2 k pi, any
    k in each coordinate. With C the one nearest to 2a, x* = ((1 - m) a + m C)/(1 + m) and Phi* = m (C - 2a)^2 / (1 +
    m). Shows: a local solver of the lower level ends in the basin of its start, and every basin is as deep as
    another. ``jitter`` moves the start at random, which the seed changes nothing about otherwise.

    ``constrained`` (with c=1 in the authors' BVFSM_constraint.py): 0 <= x + y_i <= 1 below, and f = (x - a)^2 +
    |y - a|^2. y_i = t - x with t the minimiser of sin(t - c) on [0, 1], 0 for c = 1; x* = (a + m (t - a)) / (1 + m) and
    Phi* = m (2a - t)^2 / (1 + m). The script puts the constraint on y alone and leaves z, its lower solution, free,
    which no feasible y can match; here it is the lower level's.
    """
    if m < 1:
        raise ValueError("m is at least 1")
    if constrained:
        made = _constrained(m, moved(rng, (x0,), jitter), moved(rng, (y0,) * m, jitter), a, c)
        return replace(made, seeded=jitter > 0)

    def optimistic(x: Tensor) -> Tensor:
        k = torch.round((x.detach() + a + math.pi / 2) / (2 * math.pi))  # C nearest to x + a, where f is least
        return (-math.pi / 2 + 2 * math.pi * k + c - x).expand(m)

    best = -math.pi / 2 + 2 * math.pi * round((2 * a + math.pi / 2) / (2 * math.pi))
    return Problem(
        f=lambda x, y: ((x - a) ** 2).sum() + ((y - a - c) ** 2).sum(),
        g=lambda x, y: torch.sin(x + y - c).sum(),
        x0=moved(rng, (x0,), jitter),
        y0=moved(rng, (y0,) * m, jitter),
        y_star=optimistic,
        phi_star=m * (best - 2 * a) ** 2 / (1 + m),
        phi_star_source="closed form: m (C - 2a)^2 / (1 + m), C = -pi/2 + 2 k pi nearest to 2a",
        flags=frozenset({"nonconvex", "multi_valued"}),
        selection="optimistic: the minimiser nearest to a + c in each coordinate, by rounding k",
        seeded=jitter > 0,
    )


def _constrained(m: int, x0: Tensor, y0: Tensor, a: float, c: float) -> Problem:
    bottom = c - math.pi / 2 + 2 * math.pi * math.ceil((math.pi / 2 - c) / (2 * math.pi))  # the first one from 0 on
    t = min((0.0, 1.0, *([bottom] if bottom <= 1 else [])), key=lambda s: math.sin(s - c))
    return Problem(
        f=lambda x, y: ((x - a) ** 2).sum() + ((y - a) ** 2).sum(),
        g=lambda x, y: torch.sin(x + y - c).sum(),
        x0=x0,
        y0=y0,
        y_star=lambda x: (t - x).expand(m),
        phi_star=m * (2 * a - t) ** 2 / (1 + m),
        phi_star_source="closed form: m (2a - t)^2 / (1 + m), t the minimiser of sin(t - c) on [0, 1]",
        h_g=lambda x, y: torch.cat([-x - y, x + y - 1]),
        project_xy=_nearest,
        flags=frozenset({"nonconvex", "boundary"}),
        seeded=False,
    )


def _nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest point with 0 <= x + y_i <= 1: y_i is clamped to [-x, 1 - x], and x is where the slope vanishes.

    The slope of (s - x)^2 + sum of the squares by which y_i is moved, halved, rises and is linear between the corners
    -y_i and 1 - y_i.
    """

    def slope(s: Tensor) -> Tensor:
        sums = s[:, None] + y
        return s - x + (torch.relu(sums - 1) - torch.relu(-sums)).sum(1)

    corners = torch.cat([-y, 1 - y]).sort().values
    corners = torch.cat([corners[:1] - 1, corners, corners[-1:] + 1])  # beyond the last ones it is linear too
    values = slope(corners)
    k = int((values < 0).sum().clamp(1, len(corners) - 1))
    low, high, v, w = corners[k - 1], corners[k], values[k - 1], values[k]
    s = (low - v * (high - low) / (w - v)).reshape(1)
    return s, torch.minimum(torch.maximum(y, -s), 1 - s)
