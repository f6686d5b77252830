"""FdeHBO: SOBA's three variables with second-order products by differences of gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to H^-1 df/dy
    m: Moments


@solver("fdehbo")
class FdeHBO(Outer):
    """FdeHBO. Yang, Xiao, Ji: "Achieving O(eps^-1.5) complexity in Hessian/Jacobian-free stochastic bilevel
    optimization", NeurIPS 2023, its deterministic core.

    y, the linear variable v and x move at once; H v and C v are (grad g(x, y + delta v) - grad g(x, y - delta v)) /
    (2 delta), v is projected on a ball, so that no second derivative is asked for and yet the limit is exact. With all
    rows the momentum terms of the paper are the gradients themselves, and there are no minibatches here. Where Y has
    bounds, y +- delta v is projected on it, which shortens the difference. unverified: written from a summary of the
    algorithm; that it is SOBA where g is quadratic is tested.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # lambda: step on v; lr_inner unless given
    delta: float = 1e-3  # delta_eps: half the length of a difference, in units of v
    radius: float = 1e3  # r_v: bound of |v|

    at_least = {"delta": 1e-12}

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "first order"
    calls = "3 dg_y, 2 dg_x, df"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.03,lr_inner=0.5,lr_linear=0.3,delta=1.0")
    unverified = "written from a summary of the algorithm; the paper's text was not at hand"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        fx, fy = o.df(x, y)
        up, down = o.project_y(y + self.delta * v), o.project_y(y - self.delta * v)
        hessian = (o.dg_y(x, up) - o.dg_y(x, down)) / (2 * self.delta)
        cross = (o.dg_x(x, up) - o.dg_x(x, down)) / (2 * self.delta)
        pace = self.pace(s.m)
        v = v - (self.lr_inner if self.lr_linear is None else self.lr_linear) * pace * (hessian - fy)
        v = v * (self.radius / torch.clamp(v.norm(), min=self.radius))
        m, dx = self.move(s.m, fx - cross)
        y = o.project_y(y - self.lr_inner * pace * o.dg_y(x, y))
        return State(o.project_x(x - self.lr * dx), y, v, m)
