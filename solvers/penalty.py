"""The Penalty method: the lower level as an equation, solved by a penalty with multipliers."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor  # u
    y: Tensor  # v
    gamma: Tensor  # penalty
    lam: Tensor  # lambda: weight of g, helps where g is not convex
    eps: Tensor  # tolerance
    nu: Tensor  # multipliers of grad_y g = 0
    m: Moments
    m_y: Moments


Rows = tuple[Tensor | None, Tensor | None, Tensor | None]
ALL: Rows = (None, None, None)


@solver("penalty")
class Penalty(Outer, Inner):
    """Penalty. Mehra, Hamm: "Penalty Method for Inversion-Free Deep Bilevel Optimization", ACML 2021, Algorithm 2.

    Descends f + gamma/2 |grad_y g|^2 + <grad_y g, nu> (+ lambda g for y). One step here is T steps on y and one on x;
    when the squared gradient norms of these last two fall below eps^2, gamma, eps, lambda and nu are updated, gamma
    before nu as in the authors' code. So the paper's loop "while the gradient is above eps_k" is run through step by
    step, and Algorithm 1 is ``penalty(lam=0, multipliers=False)``. The authors step by Adam on both levels: that is
    ``update='adam', update_y='adam'``. As gamma grows the penalised problem stiffens like gamma, so both steps are
    divided by max(1, gamma/gamma0), as the authors' code shrinks its learning rates at every update too (exactly so on
    their synthetic problems).

    Constraints h_f(x, y) <= 0 become h + s^2 = 0 with a slack s and the same quadratic penalty, gamma/2 |h + s^2|^2.
    The paper descends in s; here s^2 = max(-h, 0), its minimiser, so that the penalty is gamma/2 |max(h, 0)|^2. nu
    belongs to grad_y g alone, as in the paper: at a fixed gamma the constraints are missed by O(1/gamma). Constraints
    of the lower level are outside the paper's method (its footnote 2), and not taken here.

    With ``batch`` f, grad_y g and the products with its derivatives draw rows of their own (the authors' code has one
    minibatch for all, by which gamma meets a square of its noise), and the tolerance is told from them.
    """

    lr: float = 1e-2  # sigma: step on x
    lr_inner: float = 1e-2  # rho: step on y
    T: int = 10  # steps on y for each on x
    gamma: float = 1.0  # gamma_0
    lam: float = 0.0  # lambda_0
    eps: float = 1.0  # eps_0
    c_gamma: float = 1.1
    c_eps: float = 0.9
    c_lam: float = 0.9
    multipliers: bool = True  # nu; False keeps it at zero
    batch: int | None = None

    space = {"lr_inner": Axis(0.3, curvature=2)}  # y descends on gamma/2 |dg/dy|^2
    family = "first order"
    order = 2
    handles = ("h_f",)
    calls = "T+1 dg_y, T df_y, df_x, T d2g_yy, d2g_xy, 0..T+1 h_f, 0..T+1 dh_f"
    memory = "1"
    certified = (
        "lr=0.02,lr_inner=0.2,T=10,gamma=1.0,c_gamma=1.0,c_eps=1.0,eps=1e9,multipliers=False",
        "lr=0.02,lr_inner=0.2,T=10,lam=2.0,c_gamma=1.0,c_eps=1.0,c_lam=1.0,eps=1e9,multipliers=False",
        "lr=0.1,lr_inner=0.08,T=5,gamma=10.0,c_gamma=1.0,c_eps=1.0,eps=1e-2",
        "lr=0.1,lr_inner=0.05,T=5,gamma=10.0,c_gamma=1.0,c_eps=1.0,eps=1e-2,update_y='heavy_ball',momentum_y=0.3",
    )

    @property
    def certificate(self) -> str:
        return "exact" if self.multipliers else "helped"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        gamma, lam, eps = (y.new_tensor(value) for value in (self.gamma, self.lam, self.eps))
        return State(x, y, gamma, lam, eps, torch.zeros_like(y), self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        shrink = torch.clamp(self.gamma / s.gamma, max=1.0) if self.gamma else 1.0
        lr_inner = self.lr_inner * shrink
        for _ in range(self.T):
            of_f, of_g, of_h = self._rows(o) if self.batch else ALL
            here = o.at(x, y)
            gy = here.dg_y(of_g)
            vy = o.df_y(x, y, of_f) + here.d2g_yy(s.gamma * gy + s.nu, of_h) + s.lam * gy
            if len(h := o.h_f(x, y)):
                vy = vy + o.dh_f(x, y, s.gamma * torch.relu(h))[1]
            m_y, y = self.move_y(m_y, y, lr_inner, vy)
            y = o.project_y(y)
        of_f, of_g, of_h = self._rows(o) if self.batch else ALL
        here = o.at(x, y)
        gy = here.dg_y(of_g)
        vx = o.df_x(x, y, of_f) + here.d2g_xy(s.gamma * gy + s.nu, of_h)
        if len(h := o.h_f(x, y)):
            vx = vx + o.dh_f(x, y, s.gamma * torch.relu(h))[0]
        m, dx = self.move(s.m, vx)
        x = o.project_x(x - self.lr * shrink * dx)
        hit = self.met(vx @ vx, vy @ vy, s.eps)  # strict: at zero gradients gamma stops when eps^2 underflows
        gamma = torch.where(hit, self.c_gamma * s.gamma, s.gamma)
        return State(
            x,
            y,
            gamma,
            torch.where(hit, self.c_lam * s.lam, s.lam),
            torch.where(hit, self.c_eps * s.eps, s.eps),
            torch.where(hit & self.multipliers, s.nu + gamma * gy, s.nu),
            m,
            m_y,
        )

    def figures(self, s: State) -> dict[str, float]:
        """Whether gamma ever moved, and what the multipliers came to."""
        return {"gamma": float(s.gamma), "lambda": float(s.lam), "nu": float(s.nu.norm())}

    def met(self, square_x: Tensor, square_y: Tensor, eps: Tensor) -> Tensor:
        """Whether the tolerance is met, of the squared norms of both gradients."""
        return square_x + square_y < eps**2

    def _rows(self, o: Oracle) -> Rows:
        """Minibatches of f, of grad_y g, and of the product."""
        return o.draw_f(self.batch), o.draw_g(self.batch), o.draw_g(self.batch)
