"""What the harness controls between a solver and f and g: the counters, the step that comes, the random draws.

Every answer counts itself, by kind, together with the rows of data behind it. ``constraints`` and ``oracle`` stand on
this: the one answers about bounds and constraints, the other about f and g.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from . import derive, meter
from .batches import generator, minibatch
from .errors import Unsupported
from .meter import FUNCTION, PASSES, Tally
from .problem import Problem

if TYPE_CHECKING:
    from .at import At

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


def order_of(calls: Iterable[str]) -> int:
    """The order of a method that asks these kinds: 2 where second derivatives are among them, else 1."""
    return 2 if any(kind.startswith("d2") for kind in calls) else 1


class Door:
    """The counters of one run on one problem, and its random numbers.

    Answers are counted in a ``Tally``, which is not a solver's to write: ``calls`` and ``rows`` are copies.
    ``begin(step)`` is the harness's: it says which step comes, so that minibatches depend on (seed, stream, step) and
    on nothing else.
    """

    def __init__(
        self, problem: Problem, seed: int = 0, engine: derive.Derivatives = derive, tally: Tally | None = None
    ) -> None:
        self._problem = problem
        self._seed = seed
        self._engine = engine
        self._step = 0
        self._now = object()  # the step's: what is kept at a point is of no use after it
        self._arrived: dict[str, Tensor] = {}  # rows of f and of g that a stream's step is about
        self._drawn: Counter[str] = Counter()
        self._tally = tally or Tally()
        self._ticks = self._tally.ticks

    def begin(self, step: int) -> None:
        """Say which step comes next (the harness does)."""
        self._step = step
        self._drawn.clear()
        self._now = object()
        if stream := self._problem.stream:
            self._arrived = dict(zip("fg", stream.rows(step), strict=True))

    def _renewed(self, s: Any) -> Any:
        """The state with which the step begins that ``begin`` named: the problem may start y anew with new tasks."""
        if (stream := self._problem.stream) is None or stream.renew is None:
            return s
        x, y = stream.renew(self._step, s.x, s.y)
        return s._replace(x=x, y=y)

    @property
    def calls(self) -> Counter[str]:
        """Answers so far by kind, a copy."""
        return meter.calls(self._tally.read())

    @property
    def passes(self) -> Counter[str]:
        """Passes that the answers so far took: forward, backward and double (backward through a gradient), a copy."""
        return meter.passes(self._tally.read())

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

    def _count(
        self, kind: str, n: int, rows: Tensor | None, at: At | None
    ) -> tuple[derive.Answering, tuple[Tensor, ...]]:
        """Count an answer from some rows, or from all ``n``.

        What answers, the engine or what is kept ``at`` a point; and the rows as f and g take them, last and only if
        given.
        """
        if rows is None and self._arrived:
            rows = self._arrived[FUNCTION[kind]]
        engine, passes = (self._engine, PASSES[kind]) if at is None else at._kept(kind, rows)
        if rows is None:
            next(self._ticks[kind, n, passes])
            return engine, ()
        next(self._ticks[kind, rows.numel(), passes])
        return engine, (rows,)

    # -- randomness: minibatches and other numbers, functions of (seed, stream, step, how many before). All rows, which
    # None stands for in every question, take no draw: nothing is drawn, and nothing counted.

    @overload
    def draw_f(self, size: int) -> Tensor: ...
    @overload
    def draw_f(self, size: None) -> None: ...
    def draw_f(self, size: int | None) -> Tensor | None:
        """The next minibatch of f: ``size`` row indices, the same for every solver at this step. None for None."""
        return None if size is None else self._draw("f", self._problem.n_f, size, self._problem.x0.device)

    @overload
    def draw_g(self, size: int) -> Tensor: ...
    @overload
    def draw_g(self, size: None) -> None: ...
    def draw_g(self, size: int | None) -> Tensor | None:
        """The next minibatch of g: ``size`` row indices, the same for every solver at this step. None for None."""
        return None if size is None else self._draw("g", self._problem.n_g, size, self._problem.x0.device)

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
        next(self._ticks[stream, None, ""])
        return generator(self._seed, stream, self._step, k)

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        if n < 2:
            raise Unsupported(f"{stream} is no finite sum on this problem, so there are no minibatches to draw")
        k = self._drawn[stream]
        self._drawn[stream] += 1
        next(self._ticks[f"draw_{stream}", None, ""])
        return minibatch(self._seed, stream, self._step, k, n, min(size, n)).to(device)
