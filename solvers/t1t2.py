"""T1-T2: the implicit hypergradient with the identity in place of the lower Hessian."""

from typing import ClassVar, NamedTuple

from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments


@solver("t1t2")
class T1T2(Outer):
    """T1-T2. Luketina, Berglund, Greff, Raiko: "Scalable gradient-based tuning of continuous regularization
    hyperparameters", ICML 2016.

    x moves along df/dx - C df/dy. As in the authors' code C df/dy is not multiplied by the step on y. They move x and y
    at once, one step each, with Adam, and know no df/dx since their f does not depend on x; here x moves after T steps
    on y.
    """

    lr: float = 1e-2  # eta_2: step on x
    lr_inner: float = 1e-1  # eta_1: step on y
    T: int = 1  # inner steps

    scale: ClassVar[float] = 1.0  # of the identity

    family = "implicit"
    order = 2
    calls = "T dg_y, df, d2g_xy"
    memory = "1"
    certificate = "identity"
    certified = ("lr=0.1,lr_inner=1.0,T=5", "lr=0.1,lr_inner=1.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        fx, fy = o.df(x, y)
        m, dx = self.move(s.m, fx - self.scale * o.d2g_xy(x, y, fy))
        return State(o.project_x(x - self.lr * dx), y, m)
