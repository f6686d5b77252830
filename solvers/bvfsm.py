"""BVFSM: the value-function constraint of a regularised lower level, as a penalty or a barrier."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import At, Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # follows argmin g + mu_k/2 |.|^2, whose least value is f*_mu
    m: Moments


@solver("bvfsm")
class BVFSM(Outer):
    """BVFSM. Liu, Liu, Zeng, Zhang, Zhang: "Value-function-based sequential minimization for bi-level optimization",
    TPAMI 2023 (arXiv 2110.04974); with "log", BVFIM of Liu, Liu, Yuan, Zeng, Zhang, ICML 2021.

    T steps on z, T on y along df/dy + w dg/dy + theta_k y, one on x along df/dx + w (dg/dx(x, y) - dg/dx(x, z)), w the
    derivative of the penalty at g(x, y) - f*_mu(x). "quadratic": sigma/2 max(0, .)^2, so w = sigma max(0, .). "log", as
    in the authors' code: -tau_k log(f*_mu + shift - g), whose argument they hold at f*_mu + shift whatever y is, so
    w = tau_k / (f*_mu + shift); it stands for the barrier only where -shift is the least value of g. mu_k, theta_k and
    tau_k fall as (k + 1)^-fade; 1.1 in one of their scripts, others have 1/log(1.1 (k + 1)). The authors add the
    regularisers without 1/2. The penalised problem is as steep as w: unlike theirs, the steps on x and y are divided by
    max(1, w). unverified: written from the authors' code; the paper's text was not at hand.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_y: float = 1e-2  # step on y
    lr_inner: float = 1e-1  # step on z
    T: int = 10  # T_z = T_y: steps on z and on y
    mu: float = 0.1  # regulariser of z
    theta: float = 0.1  # regulariser of y
    sigma: float = 10.0  # weight of the quadratic penalty
    tau: float = 1.0  # weight of the logarithm
    shift: float = 1e-4
    fade: float = 1.1
    barrier: Literal["quadratic", "log"] = "quadratic"

    space = {"lr_y": Axis(0.5, curvature=1), "sigma": Axis(30.0, 10.0)}
    family = "first order"
    calls = "2*T dg_y, T df_y, df_x, 2 dg_x, 1+(T+1)*(barrier=='quadratic') g"
    memory = "1"
    certified = (
        "lr=0.3,lr_y=0.3,lr_inner=1.0,T=1,sigma=20.0,mu=0.05,theta=0.02,fade=0.0",
        "lr=0.3,lr_y=0.3,lr_inner=1.0,T=2,sigma=100.0,mu=0.0,theta=0.0,fade=0.0",
    )
    unverified = "written from the authors' code; the paper's text was not at hand"

    @property
    def certificate(self) -> str:
        return "value_penalty" if self.barrier == "quadratic" else "none"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z = s.x, s.y, s.z
        faded = (s.m.k + 1) ** -self.fade
        mu, theta = self.mu * faded, self.theta * faded
        for _ in range(self.T):
            z = o.project_y(z - self.lr_inner * (o.dg_y(x, z) + mu * z))
        there = o.at(x, z, order=1)
        least = there.g() + 0.5 * mu * z @ z  # f*_mu(x)

        def weight(here: At) -> Tensor:
            if self.barrier == "quadratic":
                return self.sigma * torch.relu(here.g() - least)
            return self.tau * faded / (least + self.shift)

        for _ in range(self.T):
            here = o.at(x, y, order=1)
            w = weight(here)
            y = o.project_y(y - self.lr_y / w.clamp(min=1.0) * (o.df_y(x, y) + w * here.dg_y() + theta * y))
        here = o.at(x, y, order=1)
        w = weight(here)
        direction = o.df_x(x, y) + w * (here.dg_x() - there.dg_x())
        m, dx = self.move(s.m, direction / w.clamp(min=1.0))
        return State(o.project_x(x - self.lr * dx), y, z, m)
