"""SRBA: SOBA with recursive directions, exact again every so many steps."""

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


@solver("srba")
class SRBA(Outer):
    """SRBA. Dagréou, Moreau, Vaiter, Ablin: "A lower bound and a near-optimal algorithm for bilevel empirical risk
    minimization", AISTATS 2024, Algorithm 1: SARAH on SOBA's directions.

    Every ``period`` steps the directions are those of all rows; in between they change by the difference that one
    minibatch shows between this point and the one before. v is not projected on a ball, as in the authors' code.
    Without ``batch`` this is SOBA at twice its calls.
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # rho: step on y and on v
    period: int = 32  # q: steps from one full pass to the next; the paper: n + m for single rows
    batch: int | None = None

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
        if s.m.k % self.period == 0:
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
