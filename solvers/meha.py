"""MEHA: a growing penalty on the gap between g and its Moreau envelope, one step on each variable."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor  # theta: follows the proximal point of y
    m: Moments


@solver("meha")
class MEHA(Outer):
    """MEHA. Liu, Liu, Yao, Zeng, Zhang: "Moreau envelope for nonconvex bi-level optimization: a single-loop and
    Hessian-free solution strategy", ICML 2024, Algorithm 1 for a smooth g.

    Descends f/c_k + g(x, y) - min_z (g(x, z) + |z - y|^2/(2 gamma)): one step on z, then y, then x, each at the newest
    points. c_k = c (k + 1)^growth; the paper takes growth below 1/2, 0 keeps the penalty and with it a bias of O(1/c).
    The gap is smooth whether or not g(x, .) is convex, if gamma is below the inverse of its weak convexity.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_y: float = 1e-2  # beta: step on y
    lr_inner: float = 1e-1  # eta: step on z
    gamma: float = 1.0  # proximal parameter
    c: float = 1.0  # c_0: weight of the gap against f
    growth: float = 0.25  # p

    at_least = {"gamma": 1e-12, "c": 1e-12}

    space = {"lr_y": Axis(0.5, curvature=1), "c": Axis(1.0, 10.0)}
    family = "first order"
    calls = "2 dg_y, df_y, df_x, 2 dg_x"
    memory = "1"
    certificate = "moreau"  # x_c with N = gamma A^2 (I + gamma A)^-1, at growth 0
    certified = (
        "lr=0.1,lr_y=0.3,lr_inner=0.3,gamma=2.0,c=3.0,growth=0.0",
        "lr=0.3,lr_y=0.3,lr_inner=0.3,gamma=5.0,c=20.0,growth=0.0",
    )

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z = s.x, s.y, s.z
        c = self.c * (s.m.k + 1) ** self.growth
        z = o.project_y(z - self.lr_inner * (o.dg_y(x, z) + (z - y) / self.gamma))
        y = o.project_y(y - self.lr_y * (o.df_y(x, y) / c + o.dg_y(x, y) - (y - z) / self.gamma))
        m, dx = self.move(s.m, o.df_x(x, y) / c + o.dg_x(x, y) - o.dg_x(x, z))
        return State(o.project_x(x - self.lr * dx), y, z, m)
