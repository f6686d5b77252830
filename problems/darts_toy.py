"""The bias of first-order alternation, in two variables."""

import torch

from bilevelbench import Draw, Picture, Problem, problem


@problem("darts_toy", family="quadratics", shows="first-order bias: without y's answer to x, descent ends at Phi = 1")
def darts_toy(rng: Draw, x0: float = 2.0, y0: float = -2.0) -> Problem:
    """The analytical example of DARTS (Liu, Simonyan, Yang, ICLR 2019, section 2.3).

    g = (y - x)^2,  f = xy - 2x + 1, Phi(x) = (x - 1)^2, x* = y* = 1, Phi* = 0. Methods that leave out y's answer to x
    end at (2, 2), where Phi = 1.
    """
    return Problem(
        f=lambda x, y: (x * y - 2 * x + 1).sum(),
        g=lambda x, y: ((y - x) ** 2).sum(),
        x0=torch.tensor([x0], dtype=torch.float64),
        y0=torch.tensor([y0], dtype=torch.float64),
        y_star=lambda x: x,
        phi_star=0.0,
        phi_star_source="closed form: Phi(x) = (x - 1)^2",
        flags=frozenset({"strongly_convex"}),
        picture=Picture(
            axes=(("x", 0), ("y", 0)),
            level=lambda u, v: (u - 1) ** 2 + 0 * v,
            box=(-0.5, 2.5, -2.5, 2.5),
            label="level sets of Phi",
            solution=(1.0, 1.0),
        ),
        seeded=False,
    )
