"""ITD: the hypergradient of the unrolled lower loop, by reverse accumulation."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where a cold lower loop begins
    m: Moments


@solver("itd")
class ITD(Outer):
    """Iterative differentiation (reverse mode). Franceschi, Donini, Frasconi, Pontil, ICML 2017, Algorithm 1.

    The transpose of the unrolled map is written out as second-order products, so that its cost (T gradients, T
    products) and its memory (T points with their graphs) are visible. Projections on Y are unrolled too. ``warm``
    starts the loop at the last y instead of y0, as Ji, Yang, Liang (ICML 2021) do; it changes the limit.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step of the lower loop
    T: int = 10  # steps of the lower loop, all unrolled
    warm: bool = True

    family = "unrolled"
    order = 2
    calls = "T dg_y, df, T d2g"
    memory = "T"
    certified = ("lr=0.1,lr_inner=1.0,T=3", "lr=0.1,lr_inner=0.7,T=5,warm=False")

    @property
    def certificate(self) -> str:
        return "unrolled" if self.warm else "cold"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y if self.warm else s.start
        path = []
        for _ in range(self.T):
            here = o.at(x, y)
            moved = y - self.lr_inner * here.dg_y()
            path.append((here, moved))
            y = o.project_y(moved)
        p, q = o.df(x, y)
        for before, moved in reversed(path):
            q = o.project_y_back(moved, q)
            cross, hessian = before.d2g(q)
            p = p - self.lr_inner * cross
            q = q - self.lr_inner * hessian
        m, dx = self.move(s.m, p)
        return State(o.project_x(x - self.lr * dx), y, s.start, m)
