"""BOME: dynamic barrier on the value function, first order only."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Oracle, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    mx: Tensor  # heavy-ball buffers
    my: Tensor


@solver("bome")
class BOME:
    """BOME. Liu, Ye, Wright, Stone, Liu: "BOME! Bilevel Optimization Made Easy", NeurIPS 2022, Algorithm 1.

    Additions of the released code that the paper does not have: ``eps`` in lambda's denominator, ``momentum``
    (heavy ball on both variables, ``buffer = momentum * buffer + direction``) and a step of its own for y. Their
    form of lambda is kept, phi/(|grad q|^2) - <grad f, grad q>/(|grad q|^2 + eps), so that eps does not shrink eta.
    """

    lr: float = 1e-2  # xi: step on x, and on y unless lr_y is given
    lr_y: float | None = None  # step on y
    lr_inner: float = 1e-1  # alpha: step of the inner loop
    T: int = 10  # inner steps
    eta: float = 0.5  # phi = eta |grad q|^2 ("norm") or eta q ("gap")
    phi: Literal["norm", "gap"] = "norm"
    eps: float = 1e-8
    momentum: float = 0.0

    order = 1
    certificate = "truncated"  # W(A^-1 (I - E^T)) + O(lr)

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, torch.zeros_like(x), torch.zeros_like(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y
        z = y
        for _ in range(self.T):  # z ~ argmin g(x, .), restarted at y
            z = o.project_y(z - self.lr_inner * o.dg_y(x, z))
        fx, fy = o.df(x, y)
        gx, gy = o.dg(x, y)
        qx, qy = gx - o.dg_x(x, z), gy  # q = g(x, y) - g(x, z), z held fixed
        square = qx @ qx + qy @ qy
        dot = fx @ qx + fy @ qy
        if self.phi == "norm":
            lam = torch.relu(self.eta - dot / (square + self.eps))
        else:
            lam = torch.relu((self.eta * (o.g(x, y) - o.g(x, z)) - dot) / (square + self.eps))
        mx = self.momentum * s.mx + fx + lam * qx
        my = self.momentum * s.my + fy + lam * qy
        lr_y = self.lr if self.lr_y is None else self.lr_y
        return State(o.project_x(x - self.lr * mx), o.project_y(y - lr_y * my), mx, my)
