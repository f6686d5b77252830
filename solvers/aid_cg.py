"""AID with conjugate gradients: the implicit hypergradient."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments
    m_y: Moments


@solver("aid_cg")
class AIDCG(Outer, Inner):
    """Approximate implicit differentiation, linear system by conjugate gradients. Pedregosa, ICML 2016; Grazzi,
    Franceschi, Pontil, Salzo, ICML 2020; Rajeswaran, Finn, Kakade, Levine, NeurIPS 2019 (iMAML).

    T warm steps on y, K iterations from zero on H q = df/dy, then x moves along df/dx - C q. Always K iterations, so
    that the counts are fixed; once the residual has vanished they change nothing. There is no safeguard against a
    singular or indefinite H beyond ``damping``.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    T: int = 10  # inner steps
    K: int = 10  # iterations of conjugate gradients
    damping: float = 0.0  # H + damping I

    family = "implicit"
    order = 2
    calls = "T dg_y, df, K d2g_yy, d2g_xy"
    memory = "1"
    certified = (
        "lr=0.1,lr_inner=1.0,T=5,K=6",
        "lr=0.1,lr_inner=1.0,T=1,K=6",
        "lr=0.1,lr_inner=1.0,K=6,damping=0.5",
        "lr=0.1,lr_inner=0.7,T=5,K=6,update_y='heavy_ball',momentum_y=0.3",
    )

    @property
    def certificate(self) -> str:
        return "shifted" if self.damping else "exact"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y))
            y = o.project_y(y)
        fx, r = o.df(x, y)
        here = o.at(x, y)
        q, p, rr = torch.zeros_like(r), r, r @ r
        tiny = torch.finfo(r.dtype).tiny  # in the denominators of a solved system, where rr and p'Hp underflow apart
        for _ in range(self.K):
            Hp = here.d2g_yy(p) + self.damping * p if self.damping else here.d2g_yy(p)
            a = rr / (p @ Hp + tiny)
            q, r = q + a * p, r - a * Hp
            rr, old = r @ r, rr
            p = r + rr / (old + tiny) * p
        m, dx = self.move(s.m, fx - here.d2g_xy(q))
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
