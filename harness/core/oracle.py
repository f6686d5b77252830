"""The counted door: the only way from a solver to f and g.

Every answer counts itself, by kind, together with the rows of data behind it. Answers are detached, so nothing can be
differentiated around the counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from . import derive
from .batches import minibatch
from .errors import Unsupported
from .problem import Problem

# What one answer counts on the axis "calls": one for a value, a gradient (joint or partial) or a second-order product.
# d2g answers two products with one double backward. Projections evaluate neither f nor g.
WORTH = {
    "f": 1, "g": 1,
    "df": 1, "df_x": 1, "df_y": 1,
    "dg": 1, "dg_x": 1, "dg_y": 1,
    "d2g": 2, "d2g_xy": 1, "d2g_yy": 1,
    "draw_f": 0, "draw_g": 0,
    "project_x": 0, "project_y": 0, "project_y_back": 0,
}  # fmt: skip


def total(calls: Mapping[str, int]) -> int:
    """Oracle calls on one axis: each value, gradient and second-order product counts one (see ``WORTH``)."""
    return sum(WORTH[kind] * n for kind, n in calls.items())


class Oracle:
    """Answers about one problem, counted.

    Shapes: x (n_x,), y and v (n_y,); values are scalars, gradients have the shape of their variable. ``rows`` is an
    optional minibatch, a tensor of row indices from ``draw_f`` or ``draw_g``; without it, all rows.

    calls: answers by kind. rows: data rows behind them, by kind. ``begin(step)`` is the harness's, not the solver's:
    it says which step comes, so that minibatches depend on (seed, stream, step) and on nothing else.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        self._seed = seed
        self._step = 0
        self._drawn: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def begin(self, step: int) -> None:
        """Say which step comes next (the harness does)."""
        self._step = step
        self._drawn.clear()

    def _count(self, kind: str, n: int, rows: tuple[Tensor, ...]) -> None:
        self.calls[kind] += 1
        self.rows[kind] += rows[0].numel() if rows else n

    # -- the upper objective

    def f(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """f(x, y)."""
        self._count("f", self._problem.n_f, rows)
        return derive.value(self._problem.f, x, y, *rows)

    def df(self, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(df/dx, df/dy)."""
        self._count("df", self._problem.n_f, rows)
        return derive.grad(self._problem.f, x, y, *rows)

    def df_x(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """df/dx."""
        self._count("df_x", self._problem.n_f, rows)
        return derive.grad_x(self._problem.f, x, y, *rows)

    def df_y(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """df/dy."""
        self._count("df_y", self._problem.n_f, rows)
        return derive.grad_y(self._problem.f, x, y, *rows)

    # -- the lower objective

    def g(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """g(x, y)."""
        self._count("g", self._problem.n_g, rows)
        return derive.value(self._problem.g, x, y, *rows)

    def dg(self, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(dg/dx, dg/dy)."""
        self._count("dg", self._problem.n_g, rows)
        return derive.grad(self._problem.g, x, y, *rows)

    def dg_x(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """dg/dx."""
        self._count("dg_x", self._problem.n_g, rows)
        return derive.grad_x(self._problem.g, x, y, *rows)

    def dg_y(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """dg/dy."""
        self._count("dg_y", self._problem.n_g, rows)
        return derive.grad_y(self._problem.g, x, y, *rows)

    def d2g(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(d2g/dxdy v, d2g/dydy v): both products by one double backward."""
        self._count("d2g", self._problem.n_g, rows)
        cross, hessian = derive.second(self._problem.g, x, y, v, *rows)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    def d2g_xy(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> Tensor:
        """d2g/dxdy v, the gradient in x of <dg/dy, v>."""
        self._count("d2g_xy", self._problem.n_g, rows)
        cross, _ = derive.second(self._problem.g, x, y, v, *rows, wrt="x")
        assert cross is not None
        return cross

    def d2g_yy(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> Tensor:
        """d2g/dydy v, the Hessian of g(x, .) times v."""
        self._count("d2g_yy", self._problem.n_g, rows)
        _, hessian = derive.second(self._problem.g, x, y, v, *rows, wrt="y")
        assert hessian is not None
        return hessian

    # -- minibatches

    def draw_f(self, size: int) -> Tensor:
        """The next minibatch of f: ``size`` row indices, the same for every solver at this step."""
        return self._draw("f", self._problem.n_f, size, self._problem.x0.device)

    def draw_g(self, size: int) -> Tensor:
        """The next minibatch of g: ``size`` row indices, the same for every solver at this step."""
        return self._draw("g", self._problem.n_g, size, self._problem.x0.device)

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        if n < 2:
            raise Unsupported(f"{stream} is no finite sum on this problem, so there are no minibatches to draw")
        k = self._drawn[stream]
        self._drawn[stream] += 1
        self.calls[f"draw_{stream}"] += 1
        return minibatch(self._seed, stream, self._step, k, n, min(size, n)).to(device)

    # -- constraints: one rule for all. Every update of a point in X or Y goes through these.

    def project_x(self, x: Tensor) -> Tensor:
        """The projection of x on X; x itself where the problem has no bounds."""
        if self._problem.project_x is None:
            return x
        self.calls["project_x"] += 1
        return self._problem.project_x(x)

    def project_y(self, y: Tensor) -> Tensor:
        """The projection of y on Y; y itself where the problem has no bounds."""
        if self._problem.project_y is None:
            return y
        self.calls["project_y"] += 1
        return self._problem.project_y(y)

    def project_y_back(self, y: Tensor, v: Tensor) -> Tensor:
        """v times the Jacobian of ``project_y`` at the point y (before projection), for methods that unroll."""
        if self._problem.project_y is None:
            return v
        self.calls["project_y_back"] += 1
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            return torch.autograd.grad(self._problem.project_y(leaf), leaf, v.detach())[0]
