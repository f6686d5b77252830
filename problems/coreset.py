"""The coreset toy of the BOME paper: an infimum that is not attained."""

import torch

from bilevelbench import Draw, Picture, Problem, problem

from ._start import moved

POINTS = ((1.0, 3.0), (3.0, 1.0), (-2.0, 2.0), (-3.0, -2.0))
TARGET = (3.0, -2.0)


@problem(
    "coreset", family="bome_toys", shows="an infimum at infinity: sublinear tails; never judge by the distance to x*"
)
def coreset(
    rng: Draw, x0: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0), y0: tuple[float, ...] = (0.0, 3.0), jitter: float = 0.0
) -> Problem:
    """Weights on four points whose mean comes nearest to a target; the solution lies at infinity.

    x in R^4 are logits, y in R^2:  g = |y - V' softmax(x)|^2,  f = 0.1 |y - t|^2,  t = (3, -2). The infimum 0.72 is
    that of the nearest point (1.8, 0.4) of the points' hull, on an edge: two logits go to minus infinity, |x| grows
    without end and the tail is sublinear. Liu et al., NeurIPS 2022, figure 1; starts y0 (0,3), (-3,1), (3.5,-1).
    ``jitter`` moves the start at random, which the seed changes nothing about otherwise.
    """
    if len(x0) != 4 or len(y0) != 2:
        raise ValueError("x0 has 4 numbers and y0 has 2")
    V, t = rng.put(torch.tensor(POINTS, dtype=torch.float64), torch.tensor(TARGET, dtype=torch.float64))
    (r, s) = TARGET
    return Problem(
        f=lambda x, y: 0.1 * (y - t).square().sum(),
        g=lambda x, y: (y - torch.softmax(x, 0) @ V).square().sum(),
        x0=moved(rng, x0, jitter),
        y0=moved(rng, y0, jitter),
        y_star=lambda x: torch.softmax(x, 0) @ V,
        phi_star=0.72,
        phi_star_source="closed form: 0.1 of the squared distance of t to the hull, at (1.8, 0.4)",
        flags=frozenset({"strongly_convex", "unattained"}),
        picture=Picture(
            axes=(("y", 0), ("y", 1)),
            level=lambda u, v: 0.1 * ((u - r) ** 2 + (v - s) ** 2),
            box=(-4.0, 5.0, -3.5, 4.5),
            label="level sets of f; dotted: the hull of the points",
            outline=(POINTS[0], POINTS[1], POINTS[3], POINTS[2]),
            solution=(1.8, 0.4),
        ),
        seeded=jitter > 0,
    )
