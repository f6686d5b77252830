"""Truncated reverse mode: the last K of T unrolled steps are differentiated."""

from collections import deque
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import At, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where a cold lower loop begins
    m: Moments
    m_y: Moments


@solver("k_rmd")
class KRMD(Outer, Inner):
    """K-RMD, truncated back-propagation. Shaban, Cheng, Hatch, Boots: "Truncated back-propagation for bilevel
    optimization", AISTATS 2019.

    T lower steps, the last K of them unrolled backwards: the memory is that of K copies of y. K >= T is reverse mode
    without truncation. Where H is constant the direction is that of a Neumann series with K terms at y_T, bias
    -A^-1 (I - lr_inner A)^K df/dy included. Additions, as in ``itd``: projections on Y are unrolled, ``warm`` starts
    the loop at the last y instead of y0.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # gamma: step of the lower loop
    T: int = 10  # steps of the lower loop
    K: int = 5  # of these, the last ones that are differentiated
    warm: bool = True
    update_y: Literal["plain", "heavy_ball"] = "plain"  # what is unrolled

    family = "unrolled"
    order = 2
    calls = "T dg_y, df, min(K,T) d2g"
    memory = "min(K,T)"
    certified = ("lr=0.1,lr_inner=1.0,T=5,K=3", "lr=0.1,lr_inner=1.0,T=2,K=1", "lr=0.1,lr_inner=0.7,T=5,K=2,warm=False")

    @property
    def certificate(self) -> str:
        return "neumann" if self.warm else "cold_cut"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = (s.x, s.y, s.m_y) if self.warm else (s.x, s.start, self.moments_y(s.start))
        mu = self.momentum_y if self.update_y == "heavy_ball" else 0.0
        path: deque[tuple[At, Tensor]] = deque(maxlen=self.K)
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
