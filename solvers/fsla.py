"""FSLA: a single loop for all three variables, with a variance-reduced direction for x."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to H^-1 df/dy
    x_old: Tensor  # where d was estimated, together with y and v
    d: Tensor  # the direction of x
    m: Moments


@solver("fsla")
class FSLA(Outer):
    """FSLA. Li, Gu, Huang: "A fully single loop algorithm for bilevel optimization without Hessian inverse", AAAI 2022.

    One step on y, one on v at the new y, then d <- p + (1 - eta) (d - p_old) with p = df/dx - C v and p_old the same
    at the last step's (x, y, v) on the same minibatches, and x moves along d. With all rows d = p whatever eta is, and
    the method is SOBA with its steps in turn. The first d is p: libraries that start from x = 0 correct by a wrong
    difference. Minibatches: one of g for y, one of g and of f for v, one of each for p. ``decay`` is that of all
    three steps and of eta (1/2 is common).

    Written after an independent implementation; the paper's own listing could not be read: unverified.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # step on y and on v
    eta: float = 0.5  # weight of the new estimate, at most 1
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df_y, 2 df_x, d2g_yy, 2 d2g_xy"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.05,lr_inner=0.5,eta=0.1")
    unverified = "written after an independent implementation; the paper's listing could not be read"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), x, torch.zeros_like(x), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, pace = s.x, self.pace(s.m)
        rho = self.lr_inner * pace
        y = o.project_y(s.y - rho * o.dg_y(x, s.y, o.draw_g(self.batch)))
        here = o.at(x, y)
        v = s.v - rho * (here.d2g_yy(s.v, o.draw_g(self.batch)) - o.df_y(x, y, o.draw_f(self.batch)))
        of_f, of_g = o.draw_f(self.batch), o.draw_g(self.batch)
        p = o.df_x(x, y, of_f) - here.d2g_xy(v, of_g)
        p_old = o.df_x(s.x_old, s.y, of_f) - o.d2g_xy(s.x_old, s.y, s.v, of_g)
        keep = max(0.0, 1.0 - self.eta * pace) if s.m.k else 0.0  # nothing to correct before there is a d
        d = p + keep * (s.d - p_old)
        m, dx = self.move(s.m, d)
        return State(o.project_x(x - self.lr * dx), y, v, x, d, m)
