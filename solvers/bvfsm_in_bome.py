"""BVFSM with the constants and the slips of BOME's scripts."""

import math
from typing import NamedTuple

from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # follows argmin g + l2 r |.|^2
    m: Moments


@solver("bvfsm_in_bome")
class BVFSMInBOME(Outer):
    """BVFSM as the authors of BOME released it (toy/*.py), the rival in their figures; ``bvfsm`` is the clean one.

    r = 1 / log(1.1 (horizon + 1)) is meant to fall with the step and is held, since their loop takes the number of all
    steps in its place. The barrier -ln r log(g(x, z) + l2 r |z|^2 - g(x, y) + 1e-4 + g(x, y)) has its argument held at
    what it is without the last two, whatever y is, so that its derivative is ln r dg / (g(x, z) + l2 r |z|^2 + 1e-4),
    however small that is. Regularisers l2 r |.|^2 of y and z without 1/2; no step is shortened.
    """

    lr: float = 0.05  # step on x
    lr_y: float = 0.05  # step on y
    lr_inner: float = 0.05  # step on z
    T: int = 10  # steps on z and on y
    l2: float = 0.1
    ln: float = 1.0
    horizon: int = 200  # maxIter of their loop

    family = "first order"
    calls = "2*T dg_y, T df_y, df_x, 2 dg_x, g"
    memory = "1"
    certificate = "none"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z = s.x, s.y, s.z
        r = 1 / math.log(1.1 * (self.horizon + 1))
        for _ in range(self.T):
            z = o.project_y(z - self.lr_inner * (o.dg_y(x, z) + 2 * self.l2 * r * z))
        there = o.at(x, z, order=1)
        w = self.ln * r / (there.g() + self.l2 * r * (z @ z) + 1e-4)
        for _ in range(self.T):
            y = o.project_y(y - self.lr_y * (o.df_y(x, y) + w * o.dg_y(x, y) + 2 * self.l2 * r * y))
        m, dx = self.move(s.m, o.df_x(x, y) + w * (o.dg_x(x, y) - there.dg_x()))
        return State(o.project_x(x - self.lr * dx), y, z, m)
