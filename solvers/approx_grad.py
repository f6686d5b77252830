"""Implicit differentiation with the linear system as least squares, by gradient descent."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    q: Tensor  # follows H^-1 df/dy
    m: Moments
    m_y: Moments
    m_q: Moments


@solver("approx_grad")
class ApproxGrad(Outer, Inner):
    """ApproxGrad, the rival in Mehra, Hamm: "Penalty Method for Inversion-Free Deep Bilevel Optimization",
    ACML 2021, after Pedregosa, ICML 2016, and Rajeswaran, Finn, Kakade, Levine, NeurIPS 2019.

    T warm steps on y, K on q to lessen |(H + damping I) q - df/dy|^2, then x moves along df/dx - C q. q is kept from
    step to step and moves by the rule of y, with moments of its own. Each step on q asks for two products where
    conjugate gradients ask for one, and what it descends on has the square of H's condition number; ``aid_cg`` is the
    better one. The authors' code has K = T + 1 and damping 1e-6, and Adam for x, y and q.
    """

    lr: float = 1e-2  # sigma: step on x
    lr_inner: float = 1e-1  # rho: step on y
    lr_linear: float = 1e-1  # step on q
    T: int = 10  # inner steps
    K: int = 11  # steps on q
    damping: float = 0.0

    family = "implicit"
    order = 2
    calls = "T dg_y, df, 2*K d2g_yy, d2g_xy"
    memory = "1"
    certified = (
        "lr=0.1,lr_inner=1.0,lr_linear=0.4,T=5,K=30",
        "lr=0.1,lr_inner=1.0,lr_linear=0.15,T=5,K=30,damping=0.5",
    )

    @property
    def certificate(self) -> str:
        return "shifted" if self.damping else "exact"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        q = torch.zeros_like(y)
        return State(x, y, q, self.moments(x), self.moments_y(y), self.moments_y(q))

    def step(self, o: Oracle, s: State) -> State:
        x, y, q, m_y, m_q = s.x, s.y, s.q, s.m_y, s.m_q
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y))
            y = o.project_y(y)
        fx, fy = o.df(x, y)
        here = o.at(x, y)
        for _ in range(self.K):
            r = here.d2g_yy(q) + self.damping * q - fy
            m_q, q = self.move_y(m_q, q, self.lr_linear, 2 * (here.d2g_yy(r) + self.damping * r))
        m, dx = self.move(s.m, fx - here.d2g_xy(q))
        return State(o.project_x(x - self.lr * dx), y, q, m, m_y, m_q)
