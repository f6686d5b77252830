"""Evolution strategies: x by random differences of f after the lower loop."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where a cold lower loop begins
    m: Moments


@solver("es")
class ES(Outer):
    """Evolution strategies on phi(x) = f(x, y_T(x)), the lower loop a black box. Mirrored normal directions as in
    Salimans, Ho, Chen, Sidor, Sutskever (2017, arXiv 1703.03864), values in place of their ranks.

    x moves along mean_j (phi(x + mu u_j) - phi(x - mu u_j)) / (2 mu) u_j. ``mirrored=False`` puts phi(x) in the second
    place: HOZOG (Gu, Liu, Zhang, Geng, Huang, 2021, arXiv 2102.09026), but for its directions, which have length
    sqrt(n_x). The mean is the gradient of phi up to O(mu^2), exactly on a quadratic. ``warm`` starts all lower loops at
    the last y instead of y0. Where X has bounds x + mu u_j is projected on it, which shortens differences across a
    bound.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # step of the lower loops
    T: int = 10  # steps of a lower loop
    Q: int = 10  # directions
    mu: float = 0.01  # sigma: length of a difference
    mirrored: bool = True
    warm: bool = False

    at_least = {"mu": 1e-12}

    family = "derivative free"
    calls = "(Q*(1+mirrored)+1)*T dg_y, Q+(Q if mirrored else 1) f"
    memory = "1"
    certificate = "unrolled_mean"
    certified = ("lr_inner=0.8,T=1,Q=1", "lr_inner=0.8,T=2,Q=1,mu=1e-3,mirrored=False")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, start = s.x, s.y if self.warm else s.start
        y = self._lower(o, x, start)
        here = None if self.mirrored else o.f(x, y)
        direction = torch.zeros_like(x)
        for _ in range(self.Q):
            u = o.normal(len(x))
            there = self._phi(o, o.project_x(x + self.mu * u), start)
            back = self._phi(o, o.project_x(x - self.mu * u), start) if here is None else here
            direction = direction + (there - back) / (self.mu * self.Q * (1 + self.mirrored)) * u
        m, dx = self.move(s.m, direction)
        return State(o.project_x(x - self.lr * dx), y, s.start, m)

    def _lower(self, o: Oracle, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return y

    def _phi(self, o: Oracle, x: Tensor, start: Tensor) -> Tensor:
        return o.f(x, self._lower(o, x, start))
