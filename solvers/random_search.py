"""Random search: the control that guesses x."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Oracle, solver


class State(NamedTuple):
    x: Tensor  # the best x so far
    y: Tensor  # y_T at it
    value: Tensor  # f there
    start_x: Tensor  # the centre of all guesses
    start_y: Tensor  # where every lower loop begins


@solver("random_search")
class RandomSearch:
    """Pure random search, the control for solvers that follow a direction. Bergstra, Bengio: "Random search for
    hyper-parameter optimization", JMLR 2012, with a normal distribution around x0 instead of their priors.

    A step guesses x' = x0 + scale u, u normal, projected on X, takes T lower steps from y0 and keeps (x', y_T(x'))
    where f(x', y_T(x')) is less than ever before. Guesses whose f is not a number are not kept; x0 counts as the first
    guess, so where f is not finite there, x is not either. y is y0 until a guess is kept.
    """

    lr_inner: float = 1e-1  # step of the lower loop
    T: int = 10  # steps of the lower loop
    scale: float = 1.0  # standard deviation of a guess, in each variable

    space = {"scale": Axis(1.0, 2.0)}
    family = "control"
    calls = "T dg_y, f"
    memory = "1"
    certificate = "descent"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        _, value = self._try(o, x, y)
        return State(x + 0 * value, y, value, x, y)

    def step(self, o: Oracle, s: State) -> State:
        x = o.project_x(s.start_x + self.scale * o.normal(len(s.x)))
        y, value = self._try(o, x, s.start_y)
        better = value < s.value
        return State(
            torch.where(better, x, s.x),
            torch.where(better, y, s.y),
            torch.where(better, value, s.value),
            s.start_x,
            s.start_y,
        )

    def _try(self, o: Oracle, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return y, o.f(x, y)
