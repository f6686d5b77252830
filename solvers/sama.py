"""SAMA: the identity for the inverse Hessian, and the derivative of Adam's step on y."""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    first: Tensor  # Adam's moments on y; zero with plain steps
    second: Tensor
    m: Moments


@solver("sama")
class SAMA(Outer):
    """SAMA. Choe, Mehta, Ahn, Neiswanger, Xie, Strubell, Xing: "Making scalable meta learning practical", NeurIPS 2023.

    T steps on y, by Adam (or ``lower="plain"``), then x moves along df/dx - C D df/dy: the identity in place of the
    Hessian, and D the diagonal derivative of the last Adam step in its gradient, I for plain steps. C v is
    (dg/dx(x, y + h v) - dg/dx(x, y - h v)) / (2h), h = eps/|v|, exact where g is quadratic; next to a bound both points
    are shifted into Y.

    As in the authors' code D neglects Adam's eps beside the root of the second moment; unlike there, D knows Adam's
    bias corrections. Their code also leaves y moved by -h v after each step on x (its restoring line is without
    effect): not copied. Whether the paper means that is unverified.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-2  # step on y
    T: int = 10  # inner steps
    lower: Literal["adam", "plain"] = "adam"
    eps: float = 1.0  # alpha: length of the difference
    beta: float = 0.9  # Adam's beta_1 on y; beta_2 is 0.999

    at_least = {"eps": 1e-12}
    scale: ClassVar[float] = 1.0  # of the identity, with plain steps

    space = {"lr_inner": Axis(0.01)}  # in units of y, as Adam's steps are
    family = "implicit"
    order = 1
    calls = "T dg_y, df, 2 dg_x"
    memory = "1"
    certified = ("lr_inner=0.05,T=3", "lr_inner=0.3,T=2,beta=0.5", "lr=0.1,lr_inner=1.0,T=5,lower='plain'")
    unverified = "whether y is to be moved along the difference after each step on x, as the authors' code leaves it"

    @property
    def certificate(self) -> str:
        return "adapted" if self.lower == "adam" else "identity"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(y), torch.zeros_like(y), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, first, second = s.x, s.y, s.first, s.second
        derivative: Tensor | float = 1.0
        for t in range(s.m.k * self.T + 1, (s.m.k + 1) * self.T + 1):
            gradient = o.dg_y(x, y)
            if self.lower == "plain":
                y = o.project_y(y - self.lr_inner * gradient)
                continue
            a, c = self.beta, 0.999
            old, old2 = a * first, c * second
            first, second = old + (1 - a) * gradient, old2 + (1 - c) * gradient * gradient
            ratio = (1 - c**t) ** 0.5 / (1 - a**t)
            root = torch.sqrt(second) + 1e-8 * (1 - c**t) ** 0.5
            y = o.project_y(y - self.lr_inner * ratio * first / root)
            derivative = self.lr_inner * ratio * ((1 - a) * old2 - (1 - c) * old * gradient) / root**3
        fx, fy = o.df(x, y)
        m, dx = self.move(s.m, fx - self._difference(o, x, y, derivative * fy))
        return State(o.project_x(x - self.lr * dx), y, first, second, m)

    def _difference(self, o: Oracle, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """C v; zero where v is."""
        norm = torch.linalg.vector_norm(v)
        u = self.eps * v / torch.where(norm == 0, 1.0, norm)
        minus = o.project_y(o.project_y(y + u) - 2 * u)  # y - u where no bound is near
        plus = o.project_y(minus + 2 * u)
        return (o.dg_x(x, plus) - o.dg_x(x, minus)) * (norm / (2 * self.eps))
