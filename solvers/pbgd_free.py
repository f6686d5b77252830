"""PBGD-Free: the control that drops the lower level's value function from a penalty method."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor  # follows argmin f/gamma + g
    m: Moments
    m_y: Moments


@solver("pbgd_free")
class PBGDFree(Outer, Inner):
    """PBGD-Free. Jiang, Xiao, Chen, Chen: "Beyond value functions: single-loop bilevel optimization under flatness
    conditions", NeurIPS 2025, the unconstrained, fully single-loop form (K = 1, here T).

    T steps on f/gamma + g in y, then one on f in x along df/dx alone: alternating descent with a perturbed lower level.
    A negative control: it ends where df/dx vanishes at the perturbed answer, as far from the solution as
    ``first_order`` unless f is flat in y there, and does not move where f does not depend on x. unverified: the
    pseudocode was read, not the whole paper.
    """

    lr: float = 1e-2  # eta: step on x
    lr_inner: float = 1e-1  # eta_y: step on y
    T: int = 1  # K: inner steps
    gamma: float = 10.0  # penalty

    at_least = {"gamma": 1e-12}

    space = {"gamma": Axis(10.0, 10.0)}
    family = "first order"
    calls = "T dg_y, T df_y, df_x"
    memory = "1"
    certificate = "direct_penalty"  # where df/dx vanishes along argmin f/gamma + g
    certified = ("lr=0.1,lr_inner=0.3,gamma=3.0", "lr=0.1,lr_inner=0.5,T=5,gamma=30.0")
    unverified = "the pseudocode was read, not the whole paper"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.df_y(x, y) / self.gamma + o.dg_y(x, y))
            y = o.project_y(y)
        m, dx = self.move(s.m, o.df_x(x, y))
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
