"""FdeHBO: SOBA's three variables with second-order products by differences of gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to H^-1 df/dy
    before: tuple[Tensor, ...]  # with minibatches: x, y and v of the step before
    h: tuple[Tensor, ...]  # and its directions of x, y and v
    m: Moments


Rows = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


@solver("fdehbo")
class FdeHBO(Outer):
    """FdeHBO. Yang, Xiao, Ji: "Achieving O(eps^-1.5) complexity in Hessian/Jacobian-free stochastic bilevel
    optimization", NeurIPS 2023.

    y, the linear variable v and x move at once; H v and C v are (grad g(x, y + delta v) - grad g(x, y - delta v)) /
    (2 delta), v is projected on a ball, so that no second derivative is asked for and yet the limit is exact. With
    ``batch`` each of the three directions h becomes new + (1 - eta_k) (h - old), old and new from the same rows at this
    point and at the one before, the first plain; eta_k goes by k^-2 ``decay`` and all steps by (k + 1)^-``decay`` (the
    paper: decay = 1/3). With all rows these are the directions themselves, and are asked once. Where Y has bounds,
    y +- delta v is projected on it, which shortens the difference. unverified: written from a summary of the
    algorithm; that it is SOBA where g is quadratic is tested.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # lambda: step on v; lr_inner unless given
    delta: float = 1e-3  # delta_eps: half the length of a difference, in units of v
    radius: float = 1e3  # r_v: bound of |v|
    eta: float = 0.5  # weight of the plain direction, with minibatches
    batch: int | None = None

    at_least = {"delta": 1e-12}

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "first order"
    calls = "(6 if batch else 3) dg_y, (4 if batch else 2) dg_x, (2 if batch else 1) df"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.03,lr_inner=0.5,lr_linear=0.3,delta=1.0")
    unverified = "written from a summary of the algorithm; the paper's text was not at hand"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        v = torch.zeros_like(y)
        before, h = ((x, y, v), (torch.zeros_like(x), v, v)) if self.batch else ((), ())
        return State(x, y, v, before, h, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        rows: Rows = (None, None, None, None)
        if self.batch:
            rows = o.draw_f(self.batch), o.draw_g(self.batch), o.draw_g(self.batch), o.draw_g(self.batch)
        h = self._directions(o, rows, s.x, s.y, s.v)
        if self.batch:
            keep = 1 - min(1.0, self.eta * s.m.k ** (-2 * self.decay)) if s.m.k else 0.0
            old = self._directions(o, rows, *s.before)
            h = tuple(new + keep * (kept - past) for new, kept, past in zip(h, s.h, old, strict=True))
        pace = self.pace(s.m)
        v = s.v - (self.lr_inner if self.lr_linear is None else self.lr_linear) * pace * h[2]
        v = v * (self.radius / torch.clamp(v.norm(), min=self.radius))
        m, dx = self.move(s.m, h[0])
        x, y = o.project_x(s.x - self.lr * dx), o.project_y(s.y - self.lr_inner * pace * h[1])
        return State(x, y, v, (s.x, s.y, s.v) if self.batch else (), h if self.batch else (), m)

    def _directions(self, o: Oracle, rows: Rows, x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """df/dx - C v, dg/dy and H v - df/dy: rows of f, of g in H v, in C v and in dg/dy."""
        fx, fy = o.df(x, y, rows[0])
        up, down = o.project_y(y + self.delta * v), o.project_y(y - self.delta * v)
        hessian = (o.dg_y(x, up, rows[1]) - o.dg_y(x, down, rows[1])) / (2 * self.delta)
        cross = (o.dg_x(x, up, rows[2]) - o.dg_x(x, down, rows[2])) / (2 * self.delta)
        return fx - cross, o.dg_y(x, y, rows[3]), hessian - fy
