"""The counter-example to unrolled and implicit methods when the lower solution is not unique."""

import torch

from bilevelbench import Draw, Picture, Problem, box, problem

from ._start import moved


@problem(
    "singleton",
    family="bome_toys",
    shows="a lower solution that is not unique: methods that follow grad_y g alone never find it",
)
def singleton(
    rng: Draw, x0: tuple[float, ...] = (0.0,), y0: tuple[float, ...] = (0.0, 0.0), jitter: float = 0.0
) -> Problem:
    """The lower level leaves one coordinate free: methods that follow grad_y g alone never move it.

    x in [-100, 100], y in [-100, 100]^2:  f = (x - y2)^2 / 2 + (y1 - 1)^2 / 2,  g = y1^2 / 2 - x y1. argmin g is
    {x} x R; the optimistic choice is y = (x, x), Phi(x) = (x - 1)^2 / 2, so x* = 1, y* = (1, 1), Phi* = 0. Unrolled
    methods end at x = 0.5, y = (0.5, 0); conjugate gradients meet a singular system whose right-hand side is not in
    its range. Liu, Mu, Yuan, Zeng, Zhang, ICML 2020; Liu et al., NeurIPS 2022 (toy 3).
    ``jitter`` moves the start at random, which the seed changes nothing about otherwise.
    """
    if len(x0) != 1 or len(y0) != 2:
        raise ValueError("x0 has 1 number and y0 has 2")
    return Problem(
        f=lambda x, y: 0.5 * (x[0] - y[1]) ** 2 + 0.5 * (y[0] - 1) ** 2,
        g=lambda x, y: 0.5 * y[0] ** 2 - x[0] * y[0],
        x0=moved(rng, x0, jitter),
        y0=moved(rng, y0, jitter),
        y_star=lambda x: torch.cat([x, x]),
        phi_star=0.0,
        phi_star_source="closed form: Phi(x) = (x - 1)^2 / 2 at the optimistic y = (x, x)",
        project_x=box(-100, 100),
        project_y=box(-100, 100),
        flags=frozenset({"convex", "pl", "multi_valued"}),
        selection="optimistic: f is least at y2 = x, in closed form",
        picture=Picture(
            axes=(("y", 0), ("y", 1)),
            level=lambda u, v: 0.5 * (1 - v) ** 2 + 0.5 * (u - 1) ** 2,
            box=(-0.5, 1.5, -0.5, 1.5),
            label="level sets of f at x = 1",
            solution=(1.0, 1.0),
        ),
        seeded=jitter > 0,
    )
