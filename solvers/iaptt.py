"""IAPTT-GM: the start of the lower loop is learned, the loop is cut where f is worst."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # where the lower loop begins
    m: Moments


@solver("iaptt")
class IAPTT(Outer):
    """IAPTT-GM. Liu, Liu, Zeng, Zhang: "Towards gradient-based bilevel optimization with non-convex followers and
    beyond", NeurIPS 2021.

    (x, z) descend max_t f(x, y_t(x, z)), t = 1..T: with t^ the (first) worst step, f(x, y_t^) is differentiated in x
    and in z, the start of the lower loop, by reverse accumulation. As in the authors' code x and z move at once and
    y_0 = z is no candidate. Projections on Y are unrolled too. y is y_T. The paper's accelerated lower loop is left
    out.
    """

    lr: float = 1e-2  # step on x, and on z unless lr_z is given
    lr_z: float | None = None  # step on z; 0 keeps z at y0
    lr_inner: float = 1e-1  # step of the lower loop
    T: int = 10  # steps of the lower loop

    family = "unrolled"
    order = 2
    calls = "T dg_y, T f, df, 1..T d2g"
    memory = "T"
    certificate = "pessimistic"
    certified = ("lr=0.1,lr_inner=0.7,T=4,lr_z=0", "lr=0.2,lr_z=0.5,lr_inner=0.3,T=1")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x, y))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.z
        path, values = [], []
        for _ in range(self.T):
            here = o.at(x, y)
            moved = y - self.lr_inner * here.dg_y()
            path.append((here, moved))
            y = o.project_y(moved)
            values.append(o.f(x, y))
        path = path[: int(torch.stack(values).argmax()) + 1]
        p, q = o.df(x, o.project_y(path[-1][1]))
        for before, moved in reversed(path):
            q = o.project_y_back(moved, q)
            cross, hessian = before.d2g(q)
            p = p - self.lr_inner * cross
            q = q - self.lr_inner * hessian
        m, dx, dz = self.move(s.m, p, q)
        lr_z = self.lr if self.lr_z is None else self.lr_z
        return State(o.project_x(x - self.lr * dx), y, o.project_y(s.z - lr_z * dz), m)
