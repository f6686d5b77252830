"""PZOBO: the Jacobian of the unrolled lower loop by random differences."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments


@solver("pzobo")
class PZOBO(Outer):
    """PZOBO, partial zeroth order. Sow, Ji, Liang: "On the convergence theory for Hessian-free bilevel algorithms",
    NeurIPS 2022.

    x moves along df/dx + mean_j <(y_T(x + mu u_j) - y_T(x)) / mu, df/dy> u_j over Q normal directions u_j; all lower
    loops begin at the last y. On a quadratic it is unbiased for the gradient of f(x, y_T(x)) whatever mu is. The
    authors' scripts normalise u_j, the paper does not. Where X has bounds x + mu u_j is projected on it, which shortens
    differences across a bound.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step of the lower loops
    T: int = 10  # N: steps of a lower loop
    Q: int = 10  # directions
    mu: float = 0.01  # length of a difference

    at_least = {"mu": 1e-12}

    family = "derivative free"
    order = 1
    calls = "(Q+1)*T dg_y, df"
    memory = "1"
    certificate = "unrolled_mean"
    certified = ("lr_inner=0.8,T=1,Q=2", "lr_inner=0.8,T=2,Q=1,mu=5.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, self._lower(o, s.x, s.y)
        fx, fy = o.df(x, y)
        implicit = torch.zeros_like(x)
        for _ in range(self.Q):
            u = o.normal(len(x))
            difference = self._lower(o, o.project_x(x + self.mu * u), s.y) - y
            implicit = implicit + (difference @ fy) / (self.mu * self.Q) * u
        m, dx = self.move(s.m, fx + implicit)
        return State(o.project_x(x - self.lr * dx), y, m)

    def _lower(self, o: Oracle, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return y
