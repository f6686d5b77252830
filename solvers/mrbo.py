"""MRBO: momentum-based recursive estimates on both levels, one loop."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    old_x: Tensor  # the point one step ago
    old_y: Tensor
    v: Tensor  # estimate of the hypergradient there
    u: Tensor  # estimate of dg/dy there
    m: Moments


@solver("mrbo")
class MRBO(Outer):
    """MRBO. Yang, Ji, Liang: "Provably faster algorithms for bilevel optimization", NeurIPS 2021, Algorithm 1: STORM
    on dg/dy and on stocBiO's hypergradient.

    x and y move at once. Each estimate d becomes new + (1 - eta_k) (d - old), old and new from the same minibatches at
    this point and at the one before; the first estimate is plain. The hypergradient has a Neumann series of K terms
    (K = Q + 1), each product on rows of its own. Both steps go by (k + 1)^-``decay`` and eta_k by k^-2 ``decay``
    (the paper: decay = 1/3), with one eta for both levels.
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # lambda: step on y
    lr_linear: float | None = None  # eta of the series; lr_inner unless given
    K: int = 10  # terms of the series
    eta: float = 0.5  # alpha, beta: weight of the plain estimate
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "2 dg_y, 2 df, 2*K-2 d2g_yy, 2 d2g_xy"
    memory = "1"
    certificate = "neumann"
    certified = ("lr=0.05,lr_inner=1.0,K=3", "lr=0.05,lr_inner=1.0,lr_linear=0.5,K=1")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, x, y, torch.zeros_like(x), torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, k = s.x, s.y, s.m.k
        keep = 1 - min(1.0, self.eta * k ** (-2 * self.decay)) if k else 0.0
        of_f = o.draw_f(self.batch)
        of_y, *of_g = [o.draw_g(self.batch) for _ in range(self.K + 1)]
        v = self._direction(o, x, y, of_f, of_g) + keep * (s.v - self._direction(o, s.old_x, s.old_y, of_f, of_g))
        u = o.dg_y(x, y, of_y) + keep * (s.u - o.dg_y(s.old_x, s.old_y, of_y))
        lr_y = self.lr_inner * self.pace(s.m)
        m, dx = self.move(s.m, v)
        return State(o.project_x(x - self.lr * dx), o.project_y(y - lr_y * u), x, y, v, u, m)

    def _direction(self, o: Oracle, x: Tensor, y: Tensor, of_f: Tensor | None, of_g: Sequence[Tensor | None]) -> Tensor:
        """df/dx - C q, q = eta sum_{j<K} (I - eta H)^j df/dy."""
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        fx, fy = o.df(x, y, of_f)
        here = o.at(x, y)
        q = eta * fy
        for rows in of_g[1:]:
            q = q - eta * (here.d2g_yy(q, rows) - fy)
        return fx - here.d2g_xy(q, of_g[0])
