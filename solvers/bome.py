"""BOME: dynamic barrier on the value function, first order only."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Oracle, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    mx: Tensor | None  # heavy-ball buffers, None without momentum
    my: Tensor | None


@solver("bome")
class BOME:
    """BOME. Liu, Ye, Wright, Stone, Liu: "BOME! Bilevel Optimization Made Easy", NeurIPS 2022, Algorithm 1.

    Additions of the released code that the paper does not have: ``eps`` in lambda's denominator, ``momentum``
    (heavy ball on both variables, ``buffer = momentum * buffer + direction``) and a step of its own for y. Their
    two forms of lambda are kept: eta - <grad f, grad q>/(|grad q|^2 + eps) for "norm", so that eps does not shrink eta,
    and (eta q - <grad f, grad q>)/(|grad q|^2 + eps) for "gap".
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
        return State(x, y, torch.zeros_like(x), torch.zeros_like(y)) if self.momentum else State(x, y, None, None)

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
            lam = torch.relu(self.eta - _ratio(dot, square + self.eps))
        else:
            lam = torch.relu(_ratio(self.eta * (o.g(x, y) - o.g(x, z)) - dot, square + self.eps))
        dx, dy = fx + lam * qx, fy + lam * qy
        if s.mx is not None and s.my is not None:
            dx, dy = dx + self.momentum * s.mx, dy + self.momentum * s.my
        lr_y = self.lr if self.lr_y is None else self.lr_y
        buffers = (dx, dy) if self.momentum else (None, None)
        return State(o.project_x(x - self.lr * dx), o.project_y(y - lr_y * dy), *buffers)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 at b = 0: there grad q vanishes and lambda does not matter."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)
