"""BSA: the inverse Hessian by one product of random length."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments
    m_y: Moments


@solver("bsa")
class BSA(Outer, Inner):
    """BSA, bilevel stochastic approximation. Ghadimi, Wang: "Approximation methods for bilevel programming",
    arXiv:1802.02246, 2018, its inverse Hessian by Algorithm 3 (HIA).

    T steps on y, then q = K eta (I - eta H_1)...(I - eta H_p) df/dy with p uniform on 0..K-1: its mean is the Neumann
    series of K terms, its cost half of that on average. Lower steps, factors, df and the cross product draw
    minibatches of their own. T is fixed where the paper's t_k grows with k, and eta (1/L in the paper) is a knob; y
    starts where the last step left it. ``decay`` is that of the steps on x and y (1/2 is common).
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # 1/L: step of the series; lr_inner unless given
    T: int = 10  # t_k: inner steps
    K: int = 10  # b: the longest product has K - 1 factors
    batch: int | None = None

    family = "implicit"
    order = 2
    calls = "T dg_y, df, 0..K-1 d2g_yy, d2g_xy"
    memory = "1"
    certificate = "neumann_mean"
    certified = ("lr_inner=0.8,T=2,K=3", "lr_inner=0.8,lr_linear=0.5,T=1,K=4")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        beta = self.lr_inner * self.pace(s.m)
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, beta, o.dg_y(x, y, o.draw_g(self.batch)))
            y = o.project_y(y)
        fx, q = o.df(x, y, o.draw_f(self.batch))
        here = o.at(x, y)
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        for _ in range(o.integer(self.K)):
            q = q - eta * here.d2g_yy(q, o.draw_g(self.batch))
        m, dx = self.move(s.m, fx - self.K * eta * here.d2g_xy(q, o.draw_g(self.batch)))
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
