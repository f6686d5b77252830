"""A strict saddle of Phi, with the start on its stable manifold."""

import torch

from bilevelbench import Draw, Picture, Problem, problem


@problem("saddle", family="quadratics", shows="a strict saddle of Phi: deterministic methods do not leave it")
def saddle(rng: Draw, nudge: float = 0.0) -> Problem:
    """g = 1/2 |y - x|^2,  f = y1^2/2 - y2^2/2 + y2^4/4, x and y in R^2; Phi(x) = f(x, x).

    A saddle at 0 with Phi = 0, minima at (0, +-1) with Phi* = -1/4. From x0 = y0 = (1, nudge) with nudge = 0 every
    deterministic method of exact or biased gradients stays on the stable manifold and ends at the saddle; noise, or a
    nudge, escapes. Constructed for this benchmark.
    """
    return Problem(
        f=lambda x, y: 0.5 * y[0] ** 2 - 0.5 * y[1] ** 2 + 0.25 * y[1] ** 4,
        g=lambda x, y: 0.5 * (y - x) @ (y - x),
        x0=torch.tensor([1.0, nudge], dtype=torch.float64),
        y0=torch.tensor([1.0, nudge], dtype=torch.float64),
        y_star=lambda x: x,
        phi_star=-0.25,
        phi_star_source="closed form: Phi(x) = x1^2/2 - x2^2/2 + x2^4/4",
        flags=frozenset({"strongly_convex"}),
        picture=Picture(
            axes=(("x", 0), ("x", 1)),
            level=lambda u, v: 0.5 * u**2 - 0.5 * v**2 + 0.25 * v**4,
            box=(-0.5, 1.5, -1.5, 1.5),
            label="level sets of Phi",
            solution=(0.0, 1.0),
        ),
        seeded=False,
    )
