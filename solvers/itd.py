"""ITD: the hypergradient of the unrolled lower loop, by reverse accumulation."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where a cold lower loop begins
    m: Moments
    m_y: Moments


@solver("itd")
class ITD(Outer, Inner):
    """Iterative differentiation (reverse mode). Franceschi, Donini, Frasconi, Pontil, ICML 2017, Algorithm 1.

    The transpose of the unrolled map is written out as second-order products, so that its cost (T gradients, T
    products) and its memory (T points with their graphs) are visible. Projections on Y are unrolled too. ``warm``
    starts the loop at the last y instead of y0, as Ji, Yang, Liang (ICML 2021) do; it changes the limit.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step of the lower loop
    T: int = 10  # steps of the lower loop, all unrolled
    warm: bool = True
    update_y: Literal["plain", "heavy_ball"] = "plain"  # what is unrolled

    family = "unrolled"
    order = 2
    calls = "T dg_y, df, T d2g"
    memory = "T"
    certified = ("lr=0.1,lr_inner=1.0,T=3", "lr=0.1,lr_inner=0.7,T=5,warm=False")

    @property
    def certificate(self) -> str:
        return "unrolled" if self.warm else "cold"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = (s.x, s.y, s.m_y) if self.warm else (s.x, s.start, self.moments_y(s.start))
        mu = self.momentum_y if self.update_y == "heavy_ball" else 0.0
        path = []
        for _ in range(self.T):
            here = o.at(x, y)
            m_y, moved = self.move_y(m_y, y, self.lr_inner, here.dg_y())
            path.append((here, moved))
            y = o.project_y(moved)
        p, q = o.df(x, y)
        r = torch.zeros_like(q) if mu else q  # what the buffer's adjoint is, times -1/lr_inner
        for before, moved in reversed(path):
            q = o.project_y_back(moved, q)
            r = q + mu * r if mu else q
            cross, hessian = before.d2g(r)
            p = p - self.lr_inner * cross
            q = q - self.lr_inner * hessian
        m, dx = self.move(s.m, p)
        return State(o.project_x(x - self.lr * dx), y, s.start, m, m_y)
