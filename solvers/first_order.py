"""Alternating descent: the control that ignores the lower level's answer to x."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments
    m_y: Moments


@solver("first_order")
class FirstOrder(Outer, Inner):
    """Alternating descent, the control: T steps on g in y, then one on f in x along df/dx alone.

    Not a bilevel solver: the implicit part of the hypergradient is missing, so it ends where df/dx(x, y*(x)) = 0, and
    does not move at all where f does not depend on x. Known as first-order MAML or DARTS (Liu, Simonyan, Yang,
    ICLR 2019, section 2.3 with xi = 0) and as "GD" in Mehra and Hamm, ACML 2021.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    T: int = 10  # inner steps

    family = "control"
    calls = "T dg_y, df_x"
    memory = "1"
    certificate = "direct"  # df/dx(x, y*(x)) = 0
    certified = ("lr=0.1,lr_inner=1.0,T=5", "lr=0.1,lr_inner=0.7,T=5,update_y='heavy_ball',momentum_y=0.3")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y))
            y = o.project_y(y)
        m, dx = self.move(s.m, o.df_x(x, y))
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
