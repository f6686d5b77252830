"""A point at which several things are asked: what is worked out for one answer is kept for the next.

A method that asks a gradient and then K products with the second derivative at the same point pays one forward pass,
one backward and K double backwards, as a loop by hand does that keeps its graph. Calls are counted as ever; the passes
that were saved show in a second account (``Oracle.passes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .derive import Answering, Keeping
from .meter import FUNCTION, PASSES

if TYPE_CHECKING:
    from .oracle import Oracle


class At:
    """The oracle's questions about f and g at one point (x, y): ``Oracle.at`` makes it.

    Each question is that of the oracle without x and y, counted alike. Of f and of g the graph is kept for the rows of
    the last question; other rows begin another. Where ``order`` is 2 it keeps what a second derivative needs, and
    of a gradient no more than that: its numbers are the asker's. Ask plainly what is asked once; a point is of no use
    after its step.

    Shapes are those of ``Oracle``: x (n_x,), y and v (n_y,), u (n_x,), rows of indices. RuntimeError where it is asked
    after its step, ValueError for a product with second derivatives where ``order`` is 1.
    """

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, order: int = 2) -> None:
        self._oracle, self._x, self._y, self._order = oracle, x, y, order
        self._now = oracle._now
        self._graphs: dict[str, tuple[Tensor | None, Keeping]] = {}  # by function: of which rows, and what answers

    def _kept(self, kind: str, rows: Tensor | None) -> tuple[Answering, str]:
        """What answers, and by which passes."""
        if self._now is not self._oracle._now:
            raise RuntimeError(
                "what is kept at a point is of no use after its step; ask the oracle for it anew: at(x, y)"
            )
        if self._order < 2 and "d" in PASSES[kind]:
            raise ValueError(
                f"{kind} is a product with second derivatives, which at(x, y, order={self._order}) does not keep"
            )
        name = FUNCTION[kind]
        of, kept = self._graphs.get(name, (None, None))
        if kept is None or of is not rows:
            engine, fn = self._oracle._engine, getattr(self._oracle._problem, name)
            kept = engine.keep(fn, self._x, self._y, *(() if rows is None else (rows,)), order=self._order)
            if kept is None:  # an engine that keeps nothing
                return engine, PASSES[kind]
            self._graphs[name] = rows, kept
        return kept, kept.passes(kind)

    def f(self, rows: Tensor | None = None) -> Tensor:
        """f(x, y), a scalar."""
        return self._oracle.f(self._x, self._y, rows, at=self)

    def df(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(df/dx, df/dy), shapes (n_x,) and (n_y,)."""
        return self._oracle.df(self._x, self._y, rows, at=self)

    def df_x(self, rows: Tensor | None = None) -> Tensor:
        """df/dx, shape (n_x,)."""
        return self._oracle.df_x(self._x, self._y, rows, at=self)

    def df_y(self, rows: Tensor | None = None) -> Tensor:
        """df/dy, shape (n_y,)."""
        return self._oracle.df_y(self._x, self._y, rows, at=self)

    def d2f(self, v: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(d2f/dxdy v, d2f/dydy v), shapes (n_x,) and (n_y,)."""
        return self._oracle.d2f(self._x, self._y, v, rows, at=self)

    def g(self, rows: Tensor | None = None) -> Tensor:
        """g(x, y), a scalar."""
        return self._oracle.g(self._x, self._y, rows, at=self)

    def dg(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(dg/dx, dg/dy), shapes (n_x,) and (n_y,)."""
        return self._oracle.dg(self._x, self._y, rows, at=self)

    def dg_x(self, rows: Tensor | None = None) -> Tensor:
        """dg/dx, shape (n_x,)."""
        return self._oracle.dg_x(self._x, self._y, rows, at=self)

    def dg_y(self, rows: Tensor | None = None) -> Tensor:
        """dg/dy, shape (n_y,)."""
        return self._oracle.dg_y(self._x, self._y, rows, at=self)

    def d2g(self, v: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(d2g/dxdy v, d2g/dydy v), shapes (n_x,) and (n_y,)."""
        return self._oracle.d2g(self._x, self._y, v, rows, at=self)

    def d2g_xy(self, v: Tensor, rows: Tensor | None = None) -> Tensor:
        """d2g/dxdy v, shape (n_x,)."""
        return self._oracle.d2g_xy(self._x, self._y, v, rows, at=self)

    def d2g_yy(self, v: Tensor, rows: Tensor | None = None) -> Tensor:
        """d2g/dydy v, shape (n_y,)."""
        return self._oracle.d2g_yy(self._x, self._y, v, rows, at=self)

    def d2g_yx(self, u: Tensor, rows: Tensor | None = None) -> Tensor:
        """d2g/dydx u, shape (n_y,), u of shape (n_x,)."""
        return self._oracle.d2g_yx(self._x, self._y, u, rows, at=self)
