"""Optimistic gradient descent as BOME's script has it."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Oracle, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    px: Tensor  # df/dx at the recorded point
    py: Tensor  # dg/dy there
    k: int


@solver("ogd_in_bome")
class OGDInBOME:
    """Optimistic gradient descent as released by the authors of BOME (toy/toy_adv.py); ``ogd`` is the clean one.

    Its last gradient is that of the last point that the script has recorded, which it does after the first step and
    after every ``every`` of them; at the first step it is twice that of the start, so that nothing moves; and y follows
    the new x. Their script knows no bounds.
    """

    lr: float = 0.05  # step on both
    every: int = 10  # k

    family = "control"
    calls = "2 df_x, 2 dg_y"
    memory = "2"
    certificate = "none"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, 2 * o.df_x(x, y), 2 * o.dg_y(x, y), 0)

    def step(self, o: Oracle, s: State) -> State:
        x = o.project_x(s.x - self.lr * (2 * o.df_x(s.x, s.y) - s.px))
        y = o.project_y(s.y - self.lr * (2 * o.dg_y(x, s.y) - s.py))
        k = s.k + 1
        px, py = o.df_x(x, y), o.dg_y(x, y)
        recorded = k == 1 or k % self.every == 0
        return State(x, y, px if recorded else s.px, py if recorded else s.py, k)
