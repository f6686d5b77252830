"""A hyper-objective that jumps: descent of Phi stops on the wrong side."""

import torch

from bilevelbench import Draw, Problem, box, problem


@problem(
    "jump",
    family="multi_valued",
    shows="a Phi that jumps: hypergradients stop short of the jump, penalties may step across it",
)
def jump(rng: Draw, x0: float = 0.5, y0: float = 0.5) -> Problem:
    """x, y in [-1, 1]:  g = -xy,  f = x^2 + y. argmin g = {sign x}, Phi(x) = x^2 + sign(x).

    After the hardness results of Chen, Xu, Zhang (COLT 2024) for lower levels that are merely convex; that this
    instance is one of theirs is unverified. The least value is -1 at x* = 0 with the optimistic y = -1. From x0 = 0.5
    whatever descends Phi stops at x -> 0+ where Phi -> 1. Methods that weigh f against the value gap at an unsolved y
    can step across, and then find -1.
    """
    if not (-1 <= x0 <= 1 and -1 <= y0 <= 1):
        raise ValueError(f"the start ({x0}, {y0}) lies outside [-1, 1]^2")
    return Problem(
        f=lambda x, y: (x**2 + y).sum(),
        g=lambda x, y: -(x * y).sum(),
        x0=torch.tensor([x0], dtype=torch.float64),
        y0=torch.tensor([y0], dtype=torch.float64),
        y_star=lambda x: torch.where(x > 0, torch.ones_like(x), -torch.ones_like(x)),
        phi_star=-1.0,
        phi_star_source="closed form: Phi(x) = x^2 + sign(x), optimistic at 0",
        project_x=box(-1, 1),
        project_y=box(-1, 1),
        flags=frozenset({"convex", "multi_valued", "discontinuous"}),
        selection="optimistic: y = -1 at x = 0, in closed form",
        seeded=False,
    )
