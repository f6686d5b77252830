"""SOBA: three variables, one simultaneous step each."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Oracle, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to -H^-1 df/dy
    k: int  # steps so far


@solver("soba")
class SOBA:
    """SOBA. Dagréou, Ablin, Vaiter, Moreau: "A framework for bilevel optimization that enables stochastic and global
    variance reduction algorithms", NeurIPS 2022, Algorithm 1 with the directions of section 2.2.

    y, the linear variable v and x move at once, along gradients taken at the same point. Constant steps unless
    ``decay`` > 0, then lr k^-decay for all three (the paper: 1/2). ``batch`` rows of f and g a step, all by default.
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # rho: step on y and on v
    decay: float = 0.0
    batch: int | None = None

    order = 2
    certificate = "exact"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), 0)

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        of_f = () if self.batch is None else (o.draw_f(self.batch),)
        of_g = () if self.batch is None else (o.draw_g(self.batch),)
        fx, fy = o.df(x, y, *of_f)
        cross, hessian = o.d2g(x, y, v, *of_g)
        factor = (s.k + 1) ** -self.decay
        rho = self.lr_inner * factor
        return State(
            o.project_x(x - self.lr * factor * (fx + cross)),
            o.project_y(y - rho * o.dg_y(x, y, *of_g)),
            v - rho * (hessian + fy),
            s.k + 1,
        )
