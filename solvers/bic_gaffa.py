"""BiC-GAFFA: a doubly regularised gap function, for constraints that couple x and y, without projecting on them."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # theta: follows argmin g(x, .) + <mu, h_g(x, .)> + |. - y|^2/(2 gamma)
    mu: Tensor  # z, (m,): multipliers of h_g
    m: Moments


@solver("bic_gaffa")
class BiCGAFFA(Outer):
    """BiC-GAFFA. Yao, Yin, Zeng, Zhang: "Overcoming lower-level constraints in bilevel optimization: a novel approach
    with regularized gap functions", ICLR 2025, Algorithm 1.

    Descends f/c_k + the gap max over z, lam >= 0 of L(x, y, lam) - L(x, z, mu) - |z - y|^2/(2 gamma)
    - |lam - mu|^2/(2 gamma2) in (x, y, mu), L = g + <., h_g>: lam = [mu + gamma2 h_g(x, y)]_+ in closed form, z by one
    step. mu is kept in [0, radius]. Y holds bounds alone; y leaves h_g <= 0 by O(1/c_k). Without constraints it is
    MEHA but for the order: there x moves after y, here both at once.
    """

    lr: float = 1e-2  # alpha: step on x, and on y unless lr_y is given
    lr_y: float | None = None
    lr_inner: float = 1e-2  # eta: step on z
    lr_mu: float = 1e-2  # step on mu; alpha in the paper
    gamma: float = 10.0  # gamma_1
    gamma2: float = 1.0
    c: float = 1.0  # c_0; c_k = c (k + 1)^growth
    growth: float = 0.3  # p
    radius: float = 1e3  # r: bound of the multipliers

    at_least = {"gamma": 1e-12, "gamma2": 1e-12, "c": 1e-12}

    space = {"lr_y": Axis(1.0, curvature=1, unset=True), "c": Axis(1.0, 10.0), "lr_mu": Axis(0.1)}
    family = "first order"
    handles = ("h_g",)
    calls = "dg_y, dg_x, dg, df, 0..2 h_g, 0..1 dh_g, 0..1 dh_g_x, 0..1 dh_g_y"
    memory = "1"
    certificate = "moreau"  # without constraints, at growth 0
    certified = ("lr=0.2,lr_inner=0.3,gamma=2.0,c=3.0,growth=0.0", "lr=0.3,lr_inner=0.3,gamma=5.0,c=20.0,growth=0.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, torch.zeros_like(o.h_g(x, y)), self.moments(x, y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z, mu = s.x, s.y, s.z, s.mu
        c = self.c * (s.m.k + 1) ** self.growth
        z = o.project_y(z - self.lr_inner * (o.dg_y(x, z) + o.dh_g_y(x, z, mu) + (z - y) / self.gamma))
        lam = torch.relu(mu + self.gamma2 * o.h_g(x, y))
        fx, fy = o.df(x, y)
        gx, gy = o.dg(x, y)
        hx, hy = o.dh_g(x, y, lam)
        vx = fx / c + gx + hx - o.dg_x(x, z) - o.dh_g_x(x, z, mu)
        vy = fy / c + gy + hy - (y - z) / self.gamma
        mu = mu - self.lr_mu * ((lam - mu) / self.gamma2 - o.h_g(x, z))
        m, dx, dy = self.move(s.m, vx, vy)
        lr_y = self.lr if self.lr_y is None else self.lr_y
        return State(o.project_x(x - self.lr * dx), o.project_y(y - lr_y * dy), z, mu.clamp(0.0, self.radius), m)
