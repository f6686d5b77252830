"""SUSTAIN: momentum-assisted estimates on both levels, one loop, one random product for the inverse."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    old_x: Tensor  # the point one step ago
    old_y: Tensor
    h_f: Tensor  # estimate of the hypergradient there
    h_g: Tensor  # estimate of dg/dy there
    m: Moments


@solver("sustain")
class SUSTAIN(Outer):
    """SUSTAIN. Khanduri, Zeng, Hong, Wai, Wang, Yang: "A near-optimal algorithm for stochastic bilevel optimization via
    double-momentum", NeurIPS 2021, Algorithm 1.

    x and y move at once. Each estimate h becomes new + (1 - eta_k) (h - old), old and new from the same numbers drawn
    at this point and at the one before; the first estimate is plain. For H^-1 stands K eta prod_{i<=p} (I - eta H_i),
    p uniform below K, whose mean is the Neumann series of K terms. Both steps go by (k + 1)^-``decay`` and eta_k by
    k^-2 ``decay`` (the paper: decay = 1/3), with one eta for both levels. With all rows p is still random.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # 1/L_g: step of the product; lr_inner unless given
    K: int = 10  # K: most factors and one
    eta: float = 0.5  # eta_f, eta_g: weight of the plain estimate
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "2 dg_y, 2 df, 0..2*K-2 d2g_yy, 2 d2g_xy"
    memory = "1"
    certificate = "neumann_mean"
    certified = ("lr=0.1,lr_inner=0.5,K=3", "lr=0.1,lr_inner=0.5,lr_linear=0.9,K=6")

    T: ClassVar[int] = 0  # steps on y before the direction is taken, for the certificate

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, x, y, torch.zeros_like(x), torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, k = s.x, s.y, s.m.k
        keep = 1 - min(1.0, self.eta * k ** (-2 * self.decay)) if k else 0.0
        p = o.integer(self.K)
        of_f = o.draw_f(self.batch)
        of_y, *of_g = [o.draw_g(self.batch) for _ in range(p + 2)]
        h_f = self._direction(o, x, y, of_f, of_g) + keep * (s.h_f - self._direction(o, s.old_x, s.old_y, of_f, of_g))
        h_g = o.dg_y(x, y, of_y) + keep * (s.h_g - o.dg_y(s.old_x, s.old_y, of_y))
        lr_y = self.lr_inner * self.pace(s.m)
        m, dx = self.move(s.m, h_f)
        return State(o.project_x(x - self.lr * dx), o.project_y(y - lr_y * h_g), x, y, h_f, h_g, m)

    def _direction(self, o: Oracle, x: Tensor, y: Tensor, of_f: Tensor | None, of_g: Sequence[Tensor | None]) -> Tensor:
        """df/dx - C q, q = K eta prod_{i<=p} (I - eta H_i) df/dy, one H_i for each of the rows but the first."""
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        fx, fy = o.df(x, y, of_f)
        here = o.at(x, y)
        q = self.K * eta * fy
        for rows in of_g[1:]:
            q = q - eta * here.d2g_yy(q, rows)
        return fx - here.d2g_xy(q, of_g[0])
