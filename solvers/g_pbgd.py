"""G-PBGD: a fixed penalty on the squared gradient of the lower level."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments


@solver("g_pbgd")
class GPBGD(Outer):
    """G-PBGD. Shen, Chen: "On penalty-based bilevel gradient descent method", ICML 2023, the penalty |grad_y g|^2.

    Descends f + gamma/2 |grad_y g|^2 in x and y at once. The family is that of the penalty methods, but this takes
    products with second derivatives: of the paper's two penalties it is the one that is not first order. gamma and the
    steps are scheduled as in ``vpbgd``, which differs in the penalty alone. Where g(x, .) is not convex, its maxima and
    saddles attract it.
    """

    lr: float = 1e-2  # alpha: step on x, and on y unless lr_y is given, times min(1, 1/gamma)
    lr_y: float | None = None  # step on y
    gamma: float = 10.0  # penalty
    ramp: int = 1  # steps in which gamma grows linearly from 0

    space = {"gamma": Axis(30.0, 10.0), "lr_y": Axis(1.0, curvature=1, unset=True)}
    family = "first order"
    order = 2
    calls = "dg_y, df, d2g"
    memory = "1"
    certificate = "gradient_penalty"  # x_c with N = A^2, c = gamma
    certified = ("lr=0.3,gamma=3.0", "lr=0.3,gamma=30.0,ramp=50")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x, y))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y
        gamma = self.gamma * min(1.0, (s.m.k + 1) / self.ramp)
        fx, fy = o.df(x, y)
        here = o.at(x, y)
        cross, hessian = here.d2g(here.dg_y())  # the gradient of |grad_y g|^2 / 2
        scale = min(1.0, 1.0 / gamma if gamma else 1.0)
        lr, lr_y = self.lr * scale, (self.lr if self.lr_y is None else self.lr_y) * scale
        m, dx, dy = self.move(s.m, fx + gamma * cross, fy + gamma * hessian)
        return State(o.project_x(x - lr * dx), o.project_y(y - lr_y * dy), m)
