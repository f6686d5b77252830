"""The counted door: the only way from a solver to f and g.

Every answer counts itself, by kind, together with the rows of data behind it. Answers are detached, so nothing can be
differentiated around the counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from . import derive, meter
from .batches import generator, minibatch
from .errors import Unsupported
from .meter import Tally
from .problem import Problem

# What one answer counts on the axis "calls": one for a value, a gradient (joint or partial) or a second-order product,
# of an objective or of all its constraints together. d2f and d2g answer two products with one double backward.
# Projections and random numbers evaluate none of the functions.
WORTH = {
    "f": 1, "g": 1,
    "df": 1, "df_x": 1, "df_y": 1,
    "dg": 1, "dg_x": 1, "dg_y": 1,
    "d2f": 2, "d2g": 2, "d2g_xy": 1, "d2g_yy": 1, "d2g_yx": 1,
    "h_f": 1, "h_g": 1, "dh_f": 1, "dh_g": 1, "dh_g_x": 1, "dh_g_y": 1,
    "draw_f": 0, "draw_g": 0, "normal": 0, "integer": 0,
    "project_x": 0, "project_y": 0, "project_y_back": 0, "project_xy": 0,
}  # fmt: skip


def total(calls: Mapping[str, int]) -> int:
    """Oracle calls on one axis: each value, gradient and second-order product counts one (see ``WORTH``)."""
    return sum(WORTH[kind] * n for kind, n in calls.items())


class Oracle:
    """Answers about one problem, counted.

    Shapes: x (n_x,), y and v (n_y,); values are scalars, gradients have the shape of their variable. ``rows`` is an
    optional minibatch, a tensor of row indices from ``draw_f`` or ``draw_g``; without it, all rows.

    Answers are counted in a ``Tally``, which is not a solver's to write. ``begin(step)`` is the harness's, not the
    solver's: it says which step comes, so that minibatches depend on (seed, stream, step) and on nothing else.
    """

    def __init__(
        self, problem: Problem, seed: int = 0, engine: derive.Derivatives = derive, tally: Tally | None = None
    ) -> None:
        self._problem = problem
        self._seed = seed
        self._engine = engine
        self._step = 0
        self._drawn: Counter[str] = Counter()
        self._tally = tally or Tally()
        self._ticks = self._tally.ticks

    def begin(self, step: int) -> None:
        """Say which step comes next (the harness does)."""
        self._step = step
        self._drawn.clear()

    @property
    def calls(self) -> Counter[str]:
        """Answers so far by kind, a copy."""
        return meter.calls(self._tally.read())

    @property
    def rows(self) -> Counter[str]:
        """Rows of data behind the answers so far by kind, a copy."""
        return meter.rows(self._tally.read())

    @property
    def seed(self) -> int:
        """The seed that minibatches and random numbers depend on."""
        return self._seed

    @property
    def step(self) -> int:
        """The step that ``begin`` named."""
        return self._step

    @property
    def n_f(self) -> int:
        """Rows of data behind f; 1 where it is no finite sum."""
        return self._problem.n_f

    @property
    def n_g(self) -> int:
        """Rows of data behind g; 1 where it is no finite sum."""
        return self._problem.n_g

    def _count(self, kind: str, n: int, rows: tuple[Tensor, ...]) -> None:
        next(self._ticks[kind, rows[0].numel() if rows else n, 1])

    # -- the upper objective

    def f(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """f(x, y)."""
        self._count("f", self._problem.n_f, rows)
        return self._engine.value(self._problem.f, x, y, *rows)

    def df(self, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(df/dx, df/dy)."""
        self._count("df", self._problem.n_f, rows)
        return self._engine.grad(self._problem.f, x, y, *rows)

    def df_x(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """df/dx."""
        self._count("df_x", self._problem.n_f, rows)
        return self._engine.grad_x(self._problem.f, x, y, *rows)

    def df_y(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """df/dy."""
        self._count("df_y", self._problem.n_f, rows)
        return self._engine.grad_y(self._problem.f, x, y, *rows)

    def d2f(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(d2f/dxdy v, d2f/dydy v): both products by one double backward."""
        self._count("d2f", self._problem.n_f, rows)
        cross, hessian = self._engine.second(self._problem.f, x, y, v, *rows)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    # -- the lower objective

    def g(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """g(x, y)."""
        self._count("g", self._problem.n_g, rows)
        return self._engine.value(self._problem.g, x, y, *rows)

    def dg(self, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(dg/dx, dg/dy)."""
        self._count("dg", self._problem.n_g, rows)
        return self._engine.grad(self._problem.g, x, y, *rows)

    def dg_x(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """dg/dx."""
        self._count("dg_x", self._problem.n_g, rows)
        return self._engine.grad_x(self._problem.g, x, y, *rows)

    def dg_y(self, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """dg/dy."""
        self._count("dg_y", self._problem.n_g, rows)
        return self._engine.grad_y(self._problem.g, x, y, *rows)

    def d2g(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """(d2g/dxdy v, d2g/dydy v): both products by one double backward."""
        self._count("d2g", self._problem.n_g, rows)
        cross, hessian = self._engine.second(self._problem.g, x, y, v, *rows)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    def d2g_xy(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> Tensor:
        """d2g/dxdy v, the gradient in x of <dg/dy, v>."""
        self._count("d2g_xy", self._problem.n_g, rows)
        cross, _ = self._engine.second(self._problem.g, x, y, v, *rows, wrt="x")
        assert cross is not None
        return cross

    def d2g_yy(self, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor) -> Tensor:
        """d2g/dydy v, the Hessian of g(x, .) times v."""
        self._count("d2g_yy", self._problem.n_g, rows)
        _, hessian = self._engine.second(self._problem.g, x, y, v, *rows, wrt="y")
        assert hessian is not None
        return hessian

    def d2g_yx(self, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
        """d2g/dydx u, the gradient in y of <dg/dx, u>, u of shape (n_x,)."""
        self._count("d2g_yx", self._problem.n_g, rows)
        return self._engine.cross_transposed(self._problem.g, x, y, u, *rows)

    # -- randomness: minibatches and other numbers, functions of (seed, stream, step, how many before)

    def draw_f(self, size: int) -> Tensor:
        """The next minibatch of f: ``size`` row indices, the same for every solver at this step."""
        return self._draw("f", self._problem.n_f, size, self._problem.x0.device)

    def draw_g(self, size: int) -> Tensor:
        """The next minibatch of g: ``size`` row indices, the same for every solver at this step."""
        return self._draw("g", self._problem.n_g, size, self._problem.x0.device)

    def normal(self, n: int) -> Tensor:
        """A standard normal vector, shape (n,), in the dtype and on the device of x."""
        x0 = self._problem.x0
        return torch.from_numpy(self._rng("normal").standard_normal(n)).to(x0.device, x0.dtype)

    def integer(self, n: int) -> int:
        """A whole number, uniform below n."""
        return int(self._rng("integer").integers(n))

    def _rng(self, stream: str) -> np.random.Generator:
        k = self._drawn[stream]
        self._drawn[stream] += 1
        next(self._ticks[stream, None, 0])
        return generator(self._seed, stream, self._step, k)

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        if n < 2:
            raise Unsupported(f"{stream} is no finite sum on this problem, so there are no minibatches to draw")
        k = self._drawn[stream]
        self._drawn[stream] += 1
        next(self._ticks[f"draw_{stream}", None, 0])
        return minibatch(self._seed, stream, self._step, k, n, min(size, n)).to(device)

    # -- bounds: one rule for all. Every update of a point in X or Y goes through these.

    def project_x(self, x: Tensor) -> Tensor:
        """The projection of x on X; x itself where the problem has no bounds."""
        if self._problem.project_x is None:
            return x
        next(self._ticks["project_x", None, 1])
        return self._problem.project_x(x)

    def project_y(self, y: Tensor) -> Tensor:
        """The projection of y on Y; y itself where the problem has no bounds."""
        if self._problem.project_y is None:
            return y
        next(self._ticks["project_y", None, 1])
        return self._problem.project_y(y)

    def project_y_back(self, y: Tensor, v: Tensor) -> Tensor:
        """v times the Jacobian of ``project_y`` at the point y (before projection), for methods that unroll."""
        if self._problem.project_y is None:
            return v
        next(self._ticks["project_y_back", None, 1])
        return self._engine.pull_one(self._problem.project_y, y, v)

    # -- constraints between x and y

    def project_xy(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The projection of (x, y) on the points of X times Y that satisfy the lower level's constraints."""
        if self._problem.project_xy is None:
            if self._problem.h_g is not None:
                raise Unsupported("this problem has lower-level constraints and no projection on them in (x, y)")
            return self.project_x(x), self.project_y(y)
        next(self._ticks["project_xy", None, 1])
        return self._problem.project_xy(x, y)

    def h_f(self, x: Tensor, y: Tensor) -> Tensor:
        """Values of the upper level's constraints h_f(x, y) <= 0, shape (m,); empty where there are none."""
        return self._values("h_f", self._problem.h_f, x, y)

    def dh_f(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """w, shape (m,), times the Jacobians of h_f in x and in y; zero where there are no constraints."""
        in_x, in_y = self._pull("dh_f", self._problem.h_f, x, y, w, "xy")
        return in_x, in_y

    def h_g(self, x: Tensor, y: Tensor) -> Tensor:
        """Values of the lower level's constraints h_g(x, y) <= 0, shape (m,); empty where there are none."""
        return self._values("h_g", self._problem.h_g, x, y)

    def dh_g(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """w, shape (m,), times the Jacobians of h_g in x and in y; zero where there are no constraints."""
        in_x, in_y = self._pull("dh_g", self._problem.h_g, x, y, w, "xy")
        return in_x, in_y

    def dh_g_x(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """w times the Jacobian of h_g in x."""
        return self._pull("dh_g_x", self._problem.h_g, x, y, w, "x")[0]

    def dh_g_y(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """w times the Jacobian of h_g in y."""
        return self._pull("dh_g_y", self._problem.h_g, x, y, w, "y")[0]

    def _values(self, kind: str, h: derive.Function | None, x: Tensor, y: Tensor) -> Tensor:
        if h is None:
            return x.new_zeros(0)
        next(self._ticks[kind, None, 1])
        return self._engine.value(h, x, y)

    def _pull(
        self, kind: str, h: derive.Function | None, x: Tensor, y: Tensor, w: Tensor, wrt: str
    ) -> tuple[Tensor, ...]:
        if h is None:
            return tuple(torch.zeros_like({"x": x, "y": y}[name]) for name in wrt)
        next(self._ticks[kind, None, 1])
        return self._engine.pullback(h, x, y, w, wrt)
