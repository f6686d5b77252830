"""LV-HBA: the proximal Lagrangian value function, for a lower level with constraints that couple x and y."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # theta: with lam, follows the saddle point of the proximal Lagrangian at (y, mu)
    lam: Tensor  # lambda, (m,): multipliers of h_g
    mu: Tensor  # z, (m,): centre of lam's proximal term
    m: Moments


@solver("lv_hba")
class LVHBA(Outer):
    """LV-HBA. Yao, Yu, Zeng, Zhang: "Constrained bi-level optimization: proximal Lagrangian value function approach and
    Hessian-free algorithm", ICLR 2024, Algorithm 1, with the details of the authors' script for their example LLC.

    Descends f/c_k + g - v, v(x, y, mu) the saddle value of g(x, z) + <lam, h_g(x, z)> + |z - y|^2/(2 gamma)
    - |lam - mu|^2/(2 gamma2) in z and lam: one step on (z, lam), then one on (x, y) at once, projected on
    {h_g(x, y) <= 0}, and on mu. Multipliers are kept in [0, radius]. A problem needs that projection, ``project_xy``.
    Without constraints it is MEHA but for the order: there x moves after y, here both at once.
    """

    lr: float = 1e-2  # alpha: step on x, and on y unless lr_y is given
    lr_y: float | None = None
    lr_inner: float = 1e-2  # eta: step on (z, lam)
    lr_mu: float = 1e-2  # beta: step on mu
    gamma: float = 10.0  # gamma_1
    gamma2: float = 10.0
    c: float = 1.0  # c_0; c_k = c (k + 1)^growth
    growth: float = 0.3
    radius: float = 1e3  # r: bound of the multipliers

    at_least = {"gamma": 1e-12, "gamma2": 1e-12, "c": 1e-12}

    space = {"lr_y": Axis(1.0, curvature=1, unset=True), "c": Axis(1.0, 10.0), "lr_mu": Axis(0.1)}
    family = "first order"
    handles = ("h_g",)
    calls = "dg_y, dg_x, dg, df, 0..1 h_g, 0..1 dh_g_y, 0..1 dh_g_x"
    memory = "1"
    certificate = "moreau"  # without constraints, at growth 0
    certified = ("lr=0.2,lr_inner=0.3,gamma=2.0,c=3.0,growth=0.0", "lr=0.3,lr_inner=0.3,gamma=5.0,c=20.0,growth=0.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        x, y = o.project_xy(x, y)
        zero = torch.zeros_like(o.h_g(x, y))
        return State(x, y, y, zero, zero, self.moments(x, y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z = s.x, s.y, s.z
        c = self.c * (s.m.k + 1) ** self.growth
        pull = o.dg_y(x, z) + o.dh_g_y(x, z, s.lam) + (z - y) / self.gamma
        lam = s.lam - self.lr_inner * ((s.lam - s.mu) / self.gamma2 - o.h_g(x, z))
        lam = lam.clamp(0.0, self.radius)
        z = o.project_y(z - self.lr_inner * pull)
        fx, fy = o.df(x, y)
        gx, gy = o.dg(x, y)
        vx = fx / c + gx - o.dg_x(x, z) - o.dh_g_x(x, z, lam)
        vy = fy / c + gy - (y - z) / self.gamma
        m, dx, dy = self.move(s.m, vx, vy)
        lr_y = self.lr if self.lr_y is None else self.lr_y
        x, y = o.project_xy(x - self.lr * dx, y - lr_y * dy)
        mu = (s.mu + self.lr_mu * (lam - s.mu) / self.gamma2).clamp(0.0, self.radius)
        return State(x, y, z, lam, mu, m)
