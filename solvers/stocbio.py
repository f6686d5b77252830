"""stocBiO: a stochastic Neumann series, each factor from a minibatch of its own."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments
    m_y: Moments


@solver("stocbio")
class StocBiO(Outer, Inner):
    """stocBiO. Ji, Yang, Liang: "Bilevel optimization: convergence analysis and enhanced design", ICML 2021,
    Algorithm 2, its linear system by Algorithm 3.

    T warm steps on y, then q = eta sum_{j=0..Q} (I - eta H_Q)...(I - eta H_{Q-j+1}) df/dy: Q + 1 terms and Q products,
    all terms from one chain. Lower steps, factors, df and the cross product draw minibatches of their own, all of
    size ``batch``; the paper makes those of the factors smaller from one to the next. The authors' code, and its
    copies, put eta on the last term only and leave out the first: that is not done here. ``decay`` is that of the
    steps on x and y (the paper's are constant).
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    lr_linear: float | None = None  # eta: step of the series; lr_inner unless given
    T: int = 10  # D
    Q: int = 3  # products; terms but one
    batch: int | None = None

    at_least = {"Q": 0}

    space = {"Q": Axis(3)}
    family = "implicit"
    order = 2
    calls = "T dg_y, df, Q d2g_yy, d2g_xy"
    memory = "1"
    certificate = "neumann"
    certified = ("lr=0.1,lr_inner=1.0,T=5,Q=2", "lr=0.1,lr_inner=1.0,lr_linear=0.5,T=5,Q=0")

    @property
    def K(self) -> int:
        """Terms of the series, for the certificate."""
        return self.Q + 1

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        alpha = self.lr_inner * self.pace(s.m)
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, alpha, o.dg_y(x, y, o.draw_g(self.batch)))
            y = o.project_y(y)
        fx, fy = o.df(x, y, o.draw_f(self.batch))
        here = o.at(x, y)
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        term = terms = fy
        for _ in range(self.Q):
            term = term - eta * here.d2g_yy(term, o.draw_g(self.batch))
            terms = terms + term
        m, dx = self.move(s.m, fx - here.d2g_xy(eta * terms, o.draw_g(self.batch)))
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
