"""V-PBGD: a fixed penalty on the value gap, with a lower iterate of its own."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # omega: follows argmin g(x, .)
    m: Moments
    m_z: Moments


@solver("vpbgd")
class VPBGD(Outer, Inner):
    """V-PBGD. Shen, Chen: "On penalty-based bilevel gradient descent method", ICML 2023, Algorithm 1.

    Descends f + gamma (g(x, y) - g(x, z)) with z kept across steps. As in the authors' code, gamma grows linearly from
    0 over ``ramp`` steps (1: constant from the start) and the step is scaled by min(1, 1/gamma).
    """

    lr: float = 1e-2  # alpha: step on x, and on y unless lr_y is given, times min(1, 1/gamma)
    lr_y: float | None = None  # step on y
    lr_inner: float = 1e-1  # beta: step on omega
    T: int = 1  # steps on omega
    gamma: float = 10.0  # penalty
    ramp: int = 1

    space = {"gamma": Axis(30.0, 10.0), "lr_y": Axis(1.0, curvature=1, unset=True)}
    family = "first order"
    calls = "T dg_y, dg, dg_x, df"
    memory = "1"
    certificate = "penalty"  # x_c with N = A, c = gamma
    certified = ("lr=0.2,lr_inner=1.0,gamma=3.0", "lr=0.2,lr_inner=1.0,T=4,gamma=30.0,ramp=50")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x, y), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z, m_z = s.x, s.y, s.z, s.m_z
        for _ in range(self.T):
            m_z, z = self.move_y(m_z, z, self.lr_inner, o.dg_y(x, z))
            z = o.project_y(z)
        gamma = self.gamma * min(1.0, (s.m.k + 1) / self.ramp)
        fx, fy = o.df(x, y)
        gx, gy = o.dg(x, y)
        scale = min(1.0, 1.0 / gamma if gamma else 1.0)
        lr, lr_y = self.lr * scale, (self.lr if self.lr_y is None else self.lr_y) * scale
        m, dx, dy = self.move(s.m, fx + gamma * (gx - o.dg_x(x, z)), fy + gamma * gy)
        return State(o.project_x(x - lr * dx), o.project_y(y - lr_y * dy), z, m, m_z)
