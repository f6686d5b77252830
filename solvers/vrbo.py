"""VRBO: recursive estimates on both levels, corrected in an inner loop, exact again every so many steps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # estimate of the hypergradient at (x, y)
    u: Tensor  # estimate of dg/dy at (x, y)
    m: Moments


@solver("vrbo")
class VRBO(Outer):
    """VRBO. Yang, Ji, Liang: "Provably faster algorithms for bilevel optimization", NeurIPS 2021, Algorithm 2: SPIDER
    on dg/dy and on stocBiO's hypergradient.

    Every ``period`` steps both estimates are those of all rows (the paper: of a large batch). x moves first; then both
    estimates follow the iterates, by the difference that one minibatch shows between this point and the one before:
    once to the new x, and once after each of T steps on y. The hypergradient has a Neumann series of K terms
    (K = Q + 1), each product on rows of its own.

    What is unverified: the paper was not at hand. The authors' code leaves out the correction after the last step on y.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # eta: step of the series; lr_inner unless given
    T: int = 10  # m + 1: inner steps
    K: int = 10  # terms of the series
    period: int = 10  # q: steps from one full pass to the next
    batch: int | None = None

    family = "implicit"
    order = 2
    calls = "2*T+2..2*T+3 dg_y, 2*T+2..2*T+3 df, (2*T+2)*(K-1)..(2*T+3)*(K-1) d2g_yy, 2*T+2..2*T+3 d2g_xy"
    memory = "1"
    certificate = "neumann"
    certified = ("lr=0.1,lr_inner=1.0,T=5,K=3", "lr=0.1,lr_inner=1.0,lr_linear=0.5,T=2,K=1")
    unverified = "the paper was not at hand; the authors' code corrects its estimates once less"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(x), torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v, u = s.x, s.y, s.v, s.u
        if s.m.k % self.period == 0:
            v, u = self._direction(o, x, y, None, [None] * self.K), o.dg_y(x, y)
        m, dx = self.move(s.m, v)
        old, x = (x, y), o.project_x(x - self.lr * dx)
        for t in range(self.T + 1):
            of_f = o.draw_f(self.batch)
            of_y, *of_g = [o.draw_g(self.batch) for _ in range(self.K + 1)]
            v = v + self._direction(o, x, y, of_f, of_g) - self._direction(o, *old, of_f, of_g)
            u = u + o.dg_y(x, y, of_y) - o.dg_y(*old, of_y)
            old = x, y
            if t < self.T:
                y = o.project_y(y - self.lr_inner * u)
        return State(x, y, v, u, m)

    def _direction(self, o: Oracle, x: Tensor, y: Tensor, of_f: Tensor | None, of_g: Sequence[Tensor | None]) -> Tensor:
        """df/dx - C q, q = eta sum_{j<K} (I - eta H)^j df/dy."""
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        fx, fy = o.df(x, y, of_f)
        here = o.at(x, y)
        q = eta * fy
        for rows in of_g[1:]:
            q = q - eta * (here.d2g_yy(q, rows) - fy)
        return fx - here.d2g_xy(q, of_g[0])
