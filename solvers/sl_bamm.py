"""sl-BAMM: a single loop on the average of both objectives."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the multiplier, tends to (d2psi/dydy)^-1 df/dy
    m: Moments


@solver("sl_bamm")
class SLBAMM(Outer):
    """sl-BAMM, averaged method of multipliers. Liu, Liu, Yao, Zeng, Zhang: "Averaged method of multipliers for bi-level
    optimization without lower-level strong convexity", ICML 2023, Algorithm 1.

    With psi = mu f + (1 - mu) g in place of g, strongly convex in y where f is, y, the multiplier v and x move at once:
    y along dpsi/dy, v along d2psi/dydy v - df/dy, x along df/dx - d2psi/dxdy v. mu_k = mu (k + 1)^-fade; the scripts of
    the authors have fade = 1/10. For a fixed mu the end is that of f(x, argmin psi(x, .)), which tends to x* with mu.
    Their scripts set the step on v by an exact line search, too; here it is lr_linear. ``decay`` is that of the step on
    x only. The paper's coupled schedules of the steps could not be checked: unverified.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    lr_linear: float | None = None  # eta: step on v; lr_inner unless given
    mu: float = 0.1  # mu_0: weight of f, at most 1
    fade: float = 0.0  # 1/p: mu falls like k^-fade

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df, d2f, d2g"
    memory = "1"
    certificate = "averaged"
    certified = ("lr=0.05,lr_inner=0.5", "lr=0.05,lr_inner=0.5,lr_linear=0.4,mu=0.5")
    unverified = "the paper's schedules of the three steps could not be checked"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        mu = self.mu * (s.m.k + 1) ** -self.fade
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        here = o.at(x, y)
        fx, fy = here.df()
        gy = here.dg_y()
        (f_cross, f_hessian), (g_cross, g_hessian) = here.d2f(v), here.d2g(v)
        m, dx = self.move(s.m, fx - mu * f_cross - (1 - mu) * g_cross)
        return State(
            o.project_x(x - self.lr * dx),
            o.project_y(y - self.lr_inner * (mu * fy + (1 - mu) * gy)),
            v - eta * (mu * f_hessian + (1 - mu) * g_hessian - fy),
            m,
        )
