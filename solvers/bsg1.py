"""BSG-1: the hypergradient with both second derivatives replaced by products of gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    m: Moments
    m_y: Moments


@solver("bsg1")
class BSG1(Outer, Inner):
    """BSG-1. Giovannelli, Kent, Vicente: "Inexact bilevel stochastic gradient methods for constrained and unconstrained
    lower-level problems", 2021 (arXiv 2110.00604), as the authors of BOME run it.

    T steps on y; then x moves along df/dx - (<df/dy, dg/dy> / |dg/dy|^2) dg/dx, the implicit formula with the rank-one
    H = dg/dy dg/dy' and C = dg/dx dg/dy'. The ratio has no bound as dg/dy -> 0, so it has no limit point: the better
    the lower level is solved, the larger the steps, up to NaN. ``eps`` in the denominator is not in the paper; BOME's
    scripts have 1e-50, 1e-8 and 1e-4 (0 here, with the term left out where dg/dy is zero). unverified: the paper's text
    was not at hand, BOME's script was. With ``batch`` every inner step has rows of its own, and df and dg one minibatch
    each.
    """

    lr: float = 1e-2  # alpha: step on x
    lr_inner: float = 1e-1  # beta: step on y
    T: int = 1  # inner steps
    eps: float = 0.0
    batch: int | None = None

    biased = "the ratio is of inner products with the same minibatch of g above and below"
    family = "first order"
    calls = "T dg_y, dg, df"
    memory = "1"
    certificate = "none"
    unverified = "written from the script of BOME's authors; the paper's text was not at hand"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y, o.draw_g(self.batch) if self.batch else None))
            y = o.project_y(y)
        of_f, of_g = (o.draw_f(self.batch), o.draw_g(self.batch)) if self.batch else (None, None)
        fx, fy = o.df(x, y, of_f)
        gx, gy = o.dg(x, y, of_g)
        square = gy @ gy + self.eps
        ratio = torch.where(square == 0, torch.zeros_like(square), (fy @ gy) / square)
        m, dx = self.move(s.m, fx - ratio * gx)
        return State(o.project_x(x - self.lr * dx), y, m, m_y)
