"""F3SA: F2SA with momentum-assisted estimates, one loop."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor  # follows argmin f + lambda g
    z: Tensor  # follows argmin g
    old: tuple[Tensor, Tensor, Tensor]  # x, y, z one step ago
    h: tuple[Tensor, ...]  # the six estimates: g_z, f_y, g_y, f_x, g_xy, g_xz
    m: Moments


@solver("f3sa")
class F3SA(Outer):
    """F3SA. Kwon, Kwon, Wright, Nowak: "A fully first-order method for stochastic bilevel optimization", ICML 2023,
    Algorithm 2: STORM on each of F2SA's six gradients, one inner step.

    Each estimate h becomes new + (1 - eta_k) (h - old), old and new from the same minibatch at this step's point and
    at the one before; the first is plain. lambda_k = lam (k + 1)^growth, y moves by lr_inner / lambda as in ``f2sa``.
    eta_k falls twice as fast as the step on z. The paper for noise on both levels: decay = 3/5, decay_inner = 2/5,
    growth = 1/5.

    What is unverified: the whole, its schedules above all. The paper was not at hand, and no other code is known to us.
    """

    lr: float = 1e-2  # xi alpha: step on x
    lr_inner: float = 1e-1  # gamma: step on z; y moves by lr_inner / lambda
    lam: float = 10.0  # lambda_0
    growth: float = 0.0
    decay_inner: float = 0.0  # c: gamma_k = lr_inner (k + 1)^-c
    eta: float = 0.5  # weight of the plain estimate
    batch: int | None = None

    space = {"lam": Axis(30.0, 10.0)}
    family = "first order"
    calls = "4 dg_y, 2 df_y, 2 df_x, 4 dg_x"
    memory = "1"
    certificate = "penalty"  # x_c with N = A, c = lambda
    certified = ("lr=0.05,lr_inner=0.5,lam=3.0", "lr=0.03,lr_inner=0.5,lam=30.0")
    unverified = "the paper was not at hand, and no other code is known: the schedules above all"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        in_x, in_y = torch.zeros_like(x), torch.zeros_like(y)
        return State(x, y, y, (x, y, y), (in_y, in_y, in_y, in_x, in_x, in_x), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        (x, y, z), (old_x, old_y, old_z), k = s[:3], s.old, s.m.k
        lam = self.lam * (k + 1) ** self.growth
        gamma = self.lr_inner * (k + 1) ** -self.decay_inner
        keep = 1 - min(1.0, self.eta * k ** (-2 * self.decay_inner)) if k else 0.0

        def storm(h: Tensor, ask: Callable[..., Tensor], rows: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
            return ask(x, new, rows) + keep * (h - ask(old_x, old, rows))

        g_z, f_y, g_y, f_x, g_xy, g_xz = s.h
        g_z = storm(g_z, o.dg_y, o.draw_g(self.batch), z, old_z)
        f_y = storm(f_y, o.df_y, o.draw_f(self.batch), y, old_y)
        g_y = storm(g_y, o.dg_y, o.draw_g(self.batch), y, old_y)
        new_z = o.project_y(z - gamma * g_z)
        new_y = o.project_y(y - gamma / max(lam, 1.0) * (f_y + lam * g_y))
        f_x = storm(f_x, o.df_x, o.draw_f(self.batch), new_y, y)
        g_xy = storm(g_xy, o.dg_x, o.draw_g(self.batch), new_y, y)
        g_xz = storm(g_xz, o.dg_x, o.draw_g(self.batch), new_z, z)
        m, dx = self.move(s.m, f_x + lam * (g_xy - g_xz))
        new_x = o.project_x(x - self.lr * dx)
        return State(new_x, new_y, new_z, (x, y, z), (g_z, f_y, g_y, f_x, g_xy, g_xz), m)
