"""The bilinear game of the BOME paper, as a bilevel problem on a box."""

import torch

from bilevelbench import Draw, Picture, Problem, box, problem

from ._start import moved


@problem(
    "minimax",
    family="bome_toys",
    shows="a linear lower level on a box: nothing to invert, answers that jump, descent that circles",
)
def minimax(rng: Draw, x0: tuple[float, ...] = (4.0,), y0: tuple[float, ...] = (4.0,), jitter: float = 0.0) -> Problem:
    """A bilinear game: the lower level is linear, its answer jumps from one bound to the other.

    x, y in [-10, 10]:  f = xy,  g = -xy. y*(x) = 10 sign(x) and Phi(x) = 10 |x|, so x* = 0, Phi* = 0. The lower
    Hessian is zero: implicit methods have no linear system to solve, alternating descent circles, and g is neither
    strongly convex nor satisfies the Polyak-Lojasiewicz inequality. Liu et al., NeurIPS 2022, figure 2; start (4, 4).
    ``jitter`` moves the start at random, which the seed changes nothing about otherwise.
    """
    if len(x0) != 1 or len(y0) != 1 or max(abs(x0[0]), abs(y0[0])) > 10:
        raise ValueError("x0 and y0 are lists of one number in [-10, 10]")
    return Problem(
        f=lambda x, y: (x * y).sum(),
        g=lambda x, y: -(x * y).sum(),
        x0=moved(rng, x0, jitter),
        y0=moved(rng, y0, jitter),
        y_star=lambda x: 10 * torch.sign(x),
        phi_star=0.0,
        phi_star_source="closed form: Phi(x) = 10 |x|",
        project_x=box(-10, 10),
        project_y=box(-10, 10),
        flags=frozenset({"convex", "multi_valued", "boundary", "kinked"}),
        selection="optimistic: y is free at x = 0 only, where f is 0 for every y",
        picture=Picture(
            axes=(("x", 0), ("y", 0)),
            level=lambda u, v: u * v,
            box=(-10.0, 10.0, -10.0, 10.0),
            label="level sets of f = xy",
            solution=(0.0, 0.0),
        ),
        seeded=jitter > 0,
    )
