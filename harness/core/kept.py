"""What the eager engine keeps at a point: the graph of a function's gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .autograd import Function, gradients, graphs, leaf, refuse_once
from .meter import PASSES

# Kind -> whether the gradients in x and in y are needed, and "d" for a double backward.
NEEDS = {
    kind: ("b" in passes and kind.endswith(("_x", "yx", "df", "dg")), "b" in passes and not kind.endswith(("_x", "yx")),
           "d" * ("d" in passes))
    for kind, passes in PASSES.items()
}  # fmt: skip


class Kept:
    """The eager answers about one function at one point. Value and gradients are worked out once, when they are first
    needed. Of order 2 the gradients' graph is kept: a product with second derivatives is one double backward; the
    function's own graph, which that does not need, goes with the first gradient. Of order 1 it is this that is kept."""

    __slots__ = ("_fn", "_graph", "_gx", "_gy", "_order", "_rows", "_value", "_x", "_y")

    def __init__(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> None:
        self._fn, self._rows, self._order = fn, rows, order
        self._x, self._y = leaf(x), leaf(y)
        self._graph: Tensor | None = None
        self._value: Tensor | None = None
        self._gx: Tensor | None = None
        self._gy: Tensor | None = None

    def passes(self, kind: str) -> str:
        """Those that an answer of a kind will take."""
        x, y, double = NEEDS[kind]
        if (x and self._gx is None) or (y and self._gy is None):
            return ("f" if self._graph is None else "") + "b" + double
        return double if x or y or self._value is not None else "f"

    @graphs
    def _slope(self, *points: Tensor) -> tuple[Tensor, ...]:
        """Gradients at these points, with their graph."""
        graph = self._fn(self._x, self._y, *self._rows) if self._graph is None else self._graph
        self._graph, self._value = None if self._order == 2 else graph, graph.detach()
        return gradients(graph, points, create_graph=self._order == 2, keep=True)

    @graphs
    def value(self, *point: Any) -> Tensor:
        """fn(x, y)."""
        if self._value is None:
            self._graph = self._fn(self._x, self._y, *self._rows)
            self._value = self._graph.detach()
        return self._value

    def grad(self, *point: Any) -> tuple[Tensor, Tensor]:
        """Both partial gradients."""
        if self._gx is None and self._gy is None:
            self._gx, self._gy = self._slope(self._x, self._y)
        return self.grad_x(), self.grad_y()

    def grad_x(self, *point: Any) -> Tensor:
        """The partial gradient in x."""
        if self._gx is None:
            (self._gx,) = self._slope(self._x)
        return self._gx.detach()

    def grad_y(self, *point: Any) -> Tensor:
        """The partial gradient in y."""
        if self._gy is None:
            (self._gy,) = self._slope(self._y)
        return self._gy.detach()

    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]:
        """Products with second derivatives."""
        try:
            if self._gy is None:
                (self._gy,) = self._slope(self._y)
            if wrt == "xy":
                cross, hessian = gradients(self._gy, (self._x, self._y), v.detach(), keep=True)
                return cross, hessian
            (product,) = gradients(self._gy, (self._x if wrt == "x" else self._y,), v.detach(), keep=True)
            return (product, None) if wrt == "x" else (None, product)
        except RuntimeError as error:
            refuse_once(error)
            raise

    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
        """d2/dydx u."""
        try:
            if self._gx is None:
                (self._gx,) = self._slope(self._x)
            return gradients(self._gx, (self._y,), u.detach(), keep=True)[0]
        except RuntimeError as error:
            refuse_once(error)
            raise
