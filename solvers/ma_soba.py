"""MA-SOBA: SOBA with a moving average of the direction of x."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # z with the opposite sign, tends to -H^-1 df/dy
    h: Tensor  # the moving average
    m: Moments
    m_y: Moments


@solver("ma_soba")
class MASOBA(Outer, Inner):
    """MA-SOBA. Chen, Xiao, Balasubramanian: "Optimal algorithms for stochastic bilevel optimization under relaxed
    smoothness conditions", JMLR 2024 (arXiv:2306.12067), Algorithm 1.

    SOBA, but x moves along h <- (1 - theta) h + theta (df/dx + C v), h = 0 at first. y, v and x move at once, along
    gradients taken at the same point. ``batch`` rows of f and of g a step, all by default; ``decay`` is that of all
    three steps and of theta (the paper: 1/2).

    Whether the paper's x moves along the average with this step's term or without is unverified; here, as in an
    independent implementation, with it.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta, gamma: step on y and on v
    theta: float = 0.1  # weight of the new direction, at most 1
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df, d2g"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.05,lr_inner=0.5,theta=0.5")
    unverified = "whether x moves along the average with this step's term or without"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), torch.zeros_like(x), self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        of_f, of_g = o.draw_f(self.batch), o.draw_g(self.batch)
        fx, fy = o.df(x, y, of_f)
        here = o.at(x, y)
        cross, hessian = here.d2g(v, of_g)
        pace = self.pace(s.m)
        theta, rho = min(1.0, self.theta * pace), self.lr_inner * pace
        h = (1 - theta) * s.h + theta * (fx + cross)
        m, dx = self.move(s.m, h)
        m_y, y = self.move_y(s.m_y, y, rho, here.dg_y(of_g))
        return State(
            o.project_x(x - self.lr * dx),
            o.project_y(y),
            v - rho * (hessian + fy),
            h,
            m,
            m_y,
        )
