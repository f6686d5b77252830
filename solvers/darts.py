"""DARTS: one lower step, differentiated, its cross product by central differences."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments


@solver("darts")
class DARTS(Outer):
    """Second-order DARTS. Liu, Simonyan, Yang: "DARTS: Differentiable architecture search", ICLR 2019, Algorithm 1.

    x moves along df/dx(x, y') - lr_inner C(x, y) df/dy(x, y'), y' = y - lr_inner dg/dy(x, y) a virtual step; then y
    takes a step of its own at the new x. C v is (dg/dx(x, y + h v) - dg/dx(x, y - h v)) / (2h) with h = eps/|v|, exact
    where g is quadratic; ``exact`` asks for the product itself. The first-order variant is ``first_order``.

    One step length for both steps on y, as the paper sets xi, without the authors' momentum and weight decay. The
    projection on Y is differentiated; next to a bound both differences are shifted into Y.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # xi: virtual step, and step on y
    exact: bool = False
    eps: float = 0.01

    at_least = {"eps": 1e-12}

    family = "unrolled"
    calls = "2 dg_y, df, exact d2g_xy, 2*(not exact) dg_x"
    memory = "1"
    certificate = "identity"
    certified = ("lr=0.1,lr_inner=0.8", "lr=0.1,lr_inner=0.8,exact=True")

    @property
    def order(self) -> int:
        return 2 if self.exact else 1

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y
        moved = y - self.lr_inner * o.dg_y(x, y)
        fx, fy = o.df(x, o.project_y(moved))
        q = o.project_y_back(moved, fy)
        cross = o.d2g_xy(x, y, q) if self.exact else self._difference(o, x, y, q)
        m, dx = self.move(s.m, fx - self.lr_inner * cross)
        x = o.project_x(x - self.lr * dx)
        return State(x, o.project_y(y - self.lr_inner * o.dg_y(x, y)), m)

    def _difference(self, o: Oracle, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """C v; zero where v is."""
        norm = torch.linalg.vector_norm(v)
        u = self.eps * v / torch.where(norm == 0, 1.0, norm)
        minus = o.project_y(o.project_y(y + u) - 2 * u)  # y - u where no bound is near
        plus = o.project_y(minus + 2 * u)
        return (o.dg_x(x, plus) - o.dg_x(x, minus)) * (norm / (2 * self.eps))
