"""PZOBO: the Jacobian of the unrolled lower loop by random differences."""

from collections.abc import Sequence
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
    differences across a bound. With ``batch`` every step of the lower loop has rows of its own, the same for all Q + 1
    loops, as in Algorithm 2 (PZOBO-S): noise that they share does not enter their differences.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step of the lower loops
    T: int = 10  # N: steps of a lower loop
    Q: int = 10  # directions
    mu: float = 0.01  # length of a difference
    batch: int | None = None

    at_least = {"mu": 1e-12}

    biased = "the loops' differences are multiplied by a gradient of f at a point that the same minibatches led to"
    family = "derivative free"
    order = 1
    calls = "(Q+1)*T dg_y, df"
    memory = "1"
    certificate = "unrolled_mean"
    certified = ("lr_inner=0.8,T=1,Q=2", "lr_inner=0.8,T=2,Q=1,mu=5.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        rows = [o.draw_g(self.batch) if self.batch else None for _ in range(self.T)]
        x, y = s.x, self._lower(o, s.x, s.y, rows)
        fx, fy = o.df(x, y, o.draw_f(self.batch) if self.batch else None)
        implicit = torch.zeros_like(x)
        for _ in range(self.Q):
            u = o.normal(len(x))
            difference = self._lower(o, o.project_x(x + self.mu * u), s.y, rows) - y
            implicit = implicit + (difference @ fy) / (self.mu * self.Q) * u
        m, dx = self.move(s.m, fx + implicit)
        return State(o.project_x(x - self.lr * dx), y, m)

    def _lower(self, o: Oracle, x: Tensor, y: Tensor, rows: Sequence[Tensor | None]) -> Tensor:
        for of_g in rows:
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y, of_g))
        return y
