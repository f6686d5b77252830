"""TTSA: one step on y and one on x, on two time scales."""

from typing import ClassVar, NamedTuple

from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments


@solver("ttsa")
class TTSA(Outer):
    """TTSA, two-timescale stochastic approximation. Hong, Wai, Wang, Yang: "A two-timescale stochastic algorithm
    framework for bilevel optimization: complexity analysis and application to actor-critic", SIAM J. Optim. 2023,
    Algorithm 1.

    A step on y and one on x, whose linear system is solved as in BSA by one product of random length: the mean over it
    is the Neumann series of K terms. In the paper x slows down faster than y (its non-convex case: ``decay`` 3/5 and
    ``decay_inner`` 2/5); steps are constant here unless asked, as those of all solvers. eta, a constant of the problem
    in the paper, is a knob. The lower step, the factors, df and the cross product draw minibatches of their own.
    """

    lr: float = 1e-2  # alpha_0: step on x
    lr_inner: float = 1e-1  # beta_0: step on y
    lr_linear: float | None = None  # step of the series; lr_inner unless given
    K: int = 10  # t_max: the longest product has K - 1 factors
    decay_inner: float = 0.0  # of the step on y; decay is that of the step on x
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df, 0..K-1 d2g_yy, d2g_xy"
    memory = "1"
    certificate = "neumann_mean"
    certified = ("lr_inner=0.8,K=3", "lr_inner=0.8,lr_linear=0.5,K=4")

    T: ClassVar[int] = 1  # steps on y, for the certificate

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x = s.x
        beta = self.lr_inner * (s.m.k + 1) ** -self.decay_inner
        y = o.project_y(s.y - beta * o.dg_y(x, s.y, o.draw_g(self.batch)))
        fx, q = o.df(x, y, o.draw_f(self.batch))
        here = o.at(x, y)
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        for _ in range(o.integer(self.K)):
            q = q - eta * here.d2g_yy(q, o.draw_g(self.batch))
        m, dx = self.move(s.m, fx - self.K * eta * here.d2g_xy(q, o.draw_g(self.batch)))
        return State(o.project_x(x - self.lr * dx), y, m)
