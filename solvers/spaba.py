"""SPABA: SOBA with recursive directions, exact again when a coin says so."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class Triple(NamedTuple):
    """A point, or the direction of each of its parts."""

    x: Tensor
    y: Tensor
    v: Tensor


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to -H^-1 df/dy
    before: Triple  # the point one step ago
    d: Triple  # the directions taken from there
    m: Moments


@solver("spaba")
class SPABA(Outer):
    """SPABA. Chu, Xu, Yao, Zhang: "SPABA: a single-loop and probabilistic stochastic bilevel algorithm achieving
    optimal sample complexity", ICML 2024: PAGE on SOBA's directions.

    With probability 1/``period``, and in the first step, the directions are those of all rows; else they change by the
    difference that one minibatch shows between this point and the one before. One coin for all three directions. v is
    not projected on a ball. Without ``batch`` this is SOBA at up to twice its calls.

    What is unverified: the paper was not at hand, and the authors' code flips its coin once for the whole run.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # step on y and on v
    period: int = 32  # 1/p: steps from one full pass to the next on average
    batch: int | None = None

    unverified = "written from its description; the authors' code flips its coin once for the whole run"
    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "1..2 dg_y, 1..2 df, 1..2 d2g"
    memory = "1"
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5",)

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        v = torch.zeros_like(y)
        return State(x, y, v, Triple(x, y, v), Triple(torch.zeros_like(x), v, v), self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        here = Triple(s.x, s.y, s.v)
        if o.integer(self.period) == 0 or s.m.k == 0:
            d = _directions(o, here)
        else:
            of_f, of_g = o.draw_f(self.batch), o.draw_g(self.batch)
            new, old = _directions(o, here, of_f, of_g), _directions(o, s.before, of_f, of_g)
            d = Triple(*(kept + a - b for kept, a, b in zip(s.d, new, old, strict=True)))
        rho = self.lr_inner * self.pace(s.m)
        m, dx = self.move(s.m, d.x)
        return State(o.project_x(s.x - self.lr * dx), o.project_y(s.y - rho * d.y), s.v - rho * d.v, here, d, m)


def _directions(o: Oracle, at: Triple, of_f: Tensor | None = None, of_g: Tensor | None = None) -> Triple:
    """SOBA's three directions."""
    fx, fy = o.df(at.x, at.y, of_f)
    here = o.at(at.x, at.y)
    cross, hessian = here.d2g(at.v, of_g)
    return Triple(fx + cross, here.dg_y(of_g), hessian + fy)
