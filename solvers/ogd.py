"""Optimistic gradient descent, for games."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Oracle, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    px: Tensor  # df/dx of the step before
    py: Tensor  # dg/dy of the step before


@solver("ogd")
class OGD:
    """Optimistic gradient descent. Popov 1980; Daskalakis, Ilyas, Syrgkanis, Zeng: "Training GANs with optimism",
    ICLR 2018, for a game in which x descends on f and y on g.

    Both go by twice the gradient less the last one: x - lr (2 df/dx - df/dx before), y likewise with dg/dy. In a
    bilinear game, where f = -g, it converges where plain gradients circle. Not a bilevel solver: it ends at an
    equilibrium, df/dx(x, y*(x)) = 0, which is x* only where f = -g.
    """

    lr: float = 1e-2  # eta: step on x
    lr_y: float = 1e-2  # step on y

    family = "control"
    calls = "df_x, dg_y"
    memory = "2"
    certificate = "direct"
    certified = ("lr=0.05,lr_y=0.1",)

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, o.df_x(x, y), o.dg_y(x, y))

    def step(self, o: Oracle, s: State) -> State:
        px, py = o.df_x(s.x, s.y), o.dg_y(s.x, s.y)
        x = o.project_x(s.x - self.lr * (2 * px - s.px))
        y = o.project_y(s.y - self.lr_y * (2 * py - s.py))
        return State(x, y, px, py)
