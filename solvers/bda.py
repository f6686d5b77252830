"""BDA: lower steps that descend on both objectives, unrolled."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where the lower loop begins
    m: Moments


@solver("bda")
class BDA(Outer):
    """Bi-level descent aggregation. Liu, Mu, Yuan, Zeng, Zhang: "A generic first-order algorithmic framework for
    bi-level programming beyond lower-level singleton", ICML 2020.

    The lower steps go along a_t s_u df/dy + (1 - a_t) s_l dg/dy with a_t -> 0, so that among several minimisers of g
    one with a small f is found; x moves along the derivative of f(x, y_T(x)) through them, by reverse accumulation.
    Projections on Y are unrolled too.

    The schedule is unverified: a_t = mix (t + 1)^-fade; the theory wants a_t of order 1/t (fade = 1, whose constants
    could not be checked), the authors' code has mix 0.9^t, which leaves df/dy a bounded weight however large T is.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # s_l: step along dg/dy
    lr_upper: float | None = None  # s_u: step along df/dy; lr_inner unless given
    T: int = 10  # steps of the lower loop, all unrolled
    mix: float = 0.5  # a_0
    fade: float = 1.0

    family = "unrolled"
    order = 2
    calls = "T dg_y, T df_y, df, T d2f, T d2g"
    memory = "T"
    certificate = "aggregated"
    certified = ("lr=0.1,lr_inner=0.7,T=4", "lr=0.1,lr_inner=0.7,lr_upper=0.2,T=3,mix=0.9,fade=0.5")
    unverified = "the constants of the paper's schedule of a_t could not be checked"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.start
        lr_upper = self.lr_inner if self.lr_upper is None else self.lr_upper
        path = []
        for t in range(self.T):
            a = self.mix * (t + 1) ** -self.fade
            on_f, on_g = a * lr_upper, (1 - a) * self.lr_inner
            here = o.at(x, y)
            moved = y - on_f * here.df_y() - on_g * here.dg_y()
            path.append((here, moved, on_f, on_g))
            y = o.project_y(moved)
        p, q = o.df(x, y)
        for before, moved, on_f, on_g in reversed(path):
            q = o.project_y_back(moved, q)
            f_cross, f_hessian = before.d2f(q)
            g_cross, g_hessian = before.d2g(q)
            p = p - on_f * f_cross - on_g * g_cross
            q = q - on_f * f_hessian - on_g * g_hessian
        m, dx = self.move(s.m, p)
        return State(o.project_x(x - self.lr * dx), y, s.start, m)
