"""The Penalty method as BOME's scripts have it."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    gamma: Tensor
    lam: Tensor
    eps: Tensor
    nu: Tensor
    m: Moments


@solver("penalty_in_bome")
class PenaltyInBOME(Outer):
    """Penalty as released by the authors of BOME (toy/*.py), the rival in their figures; ``penalty`` is the clean one.

    The multipliers enter as the mean of nu * dg/dy where Mehra and Hamm have the sum, 1/n of it, and begin at 1e-4; at
    every update of gamma, eps, lambda and nu both steps are shortened to 0.9, here by eps / eps_0, which falls alike.
    gamma_0 = 0.01 is too small for g to count before the first update, which may never come.
    """

    lr: float = 0.05  # step on x
    lr_inner: float = 0.05  # step on y
    T: int = 10
    gamma: float = 0.01
    lam: float = 0.1
    eps: float = 0.01
    nu: float = 1e-4  # the multipliers' start

    family = "first order"
    order = 2
    calls = "T+1 dg_y, T df_y, df_x, T d2g_yy, d2g_xy"
    memory = "1"
    certificate = "none"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        gamma, lam, eps = (y.new_tensor(value) for value in (self.gamma, self.lam, self.eps))
        return State(x, y, gamma, lam, eps, torch.full_like(y, self.nu), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y
        pace = s.eps / self.eps
        for _ in range(self.T):
            here = o.at(x, y)
            gy = here.dg_y()
            vy = o.df_y(x, y) + here.d2g_yy(s.nu / len(y) + s.gamma * gy) + s.lam * gy
            y = o.project_y(y - self.lr_inner * pace * vy)
        here = o.at(x, y)
        gy = here.dg_y()
        vx = o.df_x(x, y) + here.d2g_xy(s.nu / len(y) + s.gamma * gy)
        m, dx = self.move(s.m, vx)
        hit = vx @ vx + vy @ vy < s.eps**2
        gamma = torch.where(hit, 1.1 * s.gamma, s.gamma)
        lam, eps = torch.where(hit, 0.9 * s.lam, s.lam), torch.where(hit, 0.9 * s.eps, s.eps)
        nu = torch.where(hit, s.nu + gamma * gy, s.nu)
        return State(o.project_x(x - self.lr * pace * dx), y, gamma, lam, eps, nu, m)
