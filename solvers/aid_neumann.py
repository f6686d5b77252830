"""AID with a truncated Neumann series, the fixed-point iteration for the linear system."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    q: Tensor | None  # the linear variable, kept where it is warm
    m: Moments
    m_y: Moments


@solver("aid_neumann")
class AIDNeumann(Outer, Inner):
    """Approximate implicit differentiation by a Neumann series. Lorraine, Vicol, Duvenaud, AISTATS 2020, Algorithm 3;
    the fixed-point variant of Grazzi, Franceschi, Pontil, Salzo, ICML 2020.

    q = eta sum_{j<K} (I - eta H)^j df/dy: K terms, hence K - 1 Hessian products (libraries differ by one here).
    The bias -A^-1 (I - eta A)^K df/dy stays however long it runs. ``warm`` continues q <- q - eta (H q - df/dy) from
    the last step's q, K times with K products; then the bias goes.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    lr_linear: float | None = None  # eta: step of the series; lr_inner unless given
    T: int = 10  # inner steps
    K: int = 10  # terms of the series
    warm: bool = False  # keep q from step to step

    family = "implicit"
    order = 2
    calls = "T dg_y, df, K-(not warm) d2g_yy, d2g_xy"
    memory = "1"
    certified = (
        "lr=0.1,lr_inner=1.0,T=5,K=3",
        "lr=0.1,lr_inner=1.0,lr_linear=0.5,T=5,K=1",
        "lr=0.1,lr_inner=1.0,T=2,K=2,warm=True",
    )

    @property
    def certificate(self) -> str:
        return "exact" if self.warm else "neumann"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y) if self.warm else None, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y))
            y = o.project_y(y)
        fx, fy = o.df(x, y)
        here = o.at(x, y)
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        q = eta * fy if s.q is None else s.q  # eta df/dy is what the first iteration makes of zero, without a product
        for _ in range(self.K if self.warm else self.K - 1):
            q = q - eta * (here.d2g_yy(q) - fy)
        m, dx = self.move(s.m, fx - here.d2g_xy(q))
        return State(o.project_x(x - self.lr * dx), y, q if self.warm else None, m, m_y)
