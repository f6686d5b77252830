"""AmIGO: stochastic steps on y and on the linear variable, both continued from step to step."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    q: Tensor  # z with the opposite sign, tends to H^-1 df/dy
    m: Moments
    m_y: Moments


@solver("amigo")
class AmIGO(Outer, Inner):
    """AmIGO. Arbel, Mairal: "Amortized implicit differentiation for stochastic bilevel optimization", ICLR 2022,
    Algorithm 1, with gradient steps for both inner problems (Algorithms 2 and 3).

    T steps on y, K on q from the last step's q, then x moves along df/dx - C q. With all rows this is AID with a warm
    Neumann iteration; keeping q removes the bias of the truncated series. Every lower step, every step on q and the
    cross product draw a minibatch of their own, of one size; the steps on q share one minibatch of f. ``decay`` is
    that of all steps (the paper's are constant).
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    lr_linear: float | None = None  # beta: step on q; lr_inner unless given
    T: int = 10
    K: int = 10  # N: steps on q
    batch: int | None = None

    family = "implicit"
    order = 2
    calls = "T dg_y, df, K d2g_yy, d2g_xy"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.1,lr_inner=1.0,T=2,K=2", "lr=0.1,lr_inner=1.0,lr_linear=0.5,T=1,K=3")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, q, m_y = s.x, s.y, s.q, s.m_y
        pace = self.pace(s.m)
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner * pace, o.dg_y(x, y, o.draw_g(self.batch)))
            y = o.project_y(y)
        fx, fy = o.df(x, y, o.draw_f(self.batch))
        here = o.at(x, y)
        eta = pace * (self.lr_inner if self.lr_linear is None else self.lr_linear)
        for _ in range(self.K):
            q = q - eta * (here.d2g_yy(q, o.draw_g(self.batch)) - fy)
        m, dx = self.move(s.m, fx - here.d2g_xy(q, o.draw_g(self.batch)))
        return State(o.project_x(x - self.lr * dx), y, q, m, m_y)
