"""SOBA: three variables, one simultaneous step each."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to -H^-1 df/dy
    m: Moments
    m_y: Moments


@solver("soba")
class SOBA(Outer, Inner):
    """SOBA. Dagréou, Ablin, Vaiter, Moreau: "A framework for bilevel optimization that enables stochastic and global
    variance reduction algorithms", NeurIPS 2022, Algorithm 1 with the directions of section 2.2.

    y, the linear variable v and x move at once, along gradients taken at the same point. ``decay`` is that of all
    three steps (the paper: 1/2). ``batch`` rows of f and g a step, all by default.
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # rho: step on y and on v
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df, d2g"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.05,lr_inner=0.3,update_y='heavy_ball',momentum_y=0.3")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        of_f, of_g = o.draw_f(self.batch), o.draw_g(self.batch)
        fx, fy = o.df(x, y, of_f)
        here = o.at(x, y)
        cross, hessian = here.d2g(v, of_g)
        rho = self.lr_inner * self.pace(s.m)
        m, dx = self.move(s.m, fx + cross)
        m_y, y = self.move_y(s.m_y, y, rho, here.dg_y(of_g))
        return State(
            o.project_x(x - self.lr * dx),
            o.project_y(y),
            v - rho * (hessian + fy),
            m,
            m_y,
        )
