"""Forward mode: the Jacobian of the unrolled lower loop is carried along."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    start: Tensor  # where a cold lower loop begins
    m: Moments


@solver("fmd")
class FMD(Outer):
    """Forward-mode iterative differentiation. Franceschi, Donini, Frasconi, Pontil: "Forward and reverse
    gradient-based hyperparameter optimization", ICML 2017 (Forward-HG).

    Z, the Jacobian of y_t in x, goes by Z <- (I - lr_inner H) Z - lr_inner C^T next to y, one column for each variable
    of x: no path is kept, and the cost grows with n_x instead of the memory with T. The direction is that of ``itd``.
    The hypergradient is taken after the last step; the paper's real-time variant, which moves x within the loop, is
    left out. Additions, as in ``itd``: projections on Y are unrolled, ``warm`` starts at the last y instead of y0.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # eta: step of the lower loop
    T: int = 10  # steps of the lower loop
    warm: bool = True

    family = "unrolled"
    order = 2
    calls = "T dg_y, df, T*n_x d2g_yy, T*n_x d2g_yx"
    memory = "n_x"
    certified = ("lr=0.1,lr_inner=1.0,T=3", "lr=0.1,lr_inner=0.7,T=3,warm=False")

    @property
    def certificate(self) -> str:
        return "unrolled" if self.warm else "cold"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y = s.x, s.y if self.warm else s.start
        eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
        Z = [torch.zeros_like(y) for _ in eye]
        for _ in range(self.T):
            here = o.at(x, y)
            moved = y - self.lr_inner * here.dg_y()
            for i, e in enumerate(eye):
                column = Z[i] - self.lr_inner * (here.d2g_yy(Z[i]) + here.d2g_yx(e))
                Z[i] = o.project_y_back(moved, column)  # coordinate by coordinate, hence symmetric
            y = o.project_y(moved)
        fx, fy = o.df(x, y)
        m, dx = self.move(s.m, fx + torch.stack([z @ fy for z in Z]))
        return State(o.project_x(x - self.lr * dx), y, s.start, m)
