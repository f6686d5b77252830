"""What the eager engine keeps at a point: the graph of a function's gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .autograd import Edge, Function, edge, gradients, graphs, leaf, products, refuse_once
from .meter import PASSES

# Kind -> whether the gradients in x and in y are needed, and "d" for a double backward.
NEEDS = {
    kind: ("b" in passes and kind.endswith(("_x", "yx", "df", "dg")), "b" in passes and not kind.endswith(("_x", "yx")),
           "d" * ("d" in passes))
    for kind, passes in PASSES.items()
}  # fmt: skip


class Kept:
    """The eager answers about one function at one point, worked out when they are first needed.

    Of order 2 the gradients' graph is kept: a product with second derivatives is one double backward. What that does
    not need goes: the function's own graph with the first gradient, and a gradient's numbers once they were asked for.
    Of order 1 it is the function's own graph that is kept.
    """

    __slots__ = ("_edge_x", "_edge_y", "_fn", "_graph", "_gx", "_gy", "_order", "_rows", "_value", "_x", "_y")

    def __init__(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> None:
        self._fn, self._rows, self._order = fn, rows, order
        self._x, self._y = leaf(x), leaf(y)
        self._graph: Tensor | None = None
        self._value: Tensor | None = None
        self._gx: Tensor | None = None
        self._gy: Tensor | None = None
        self._edge_x: Edge | None = None
        self._edge_y: Edge | None = None

    def passes(self, kind: str) -> str:
        """Those that an answer of a kind will take."""
        x, y, double = NEEDS[kind]
        known_x, known_y = (self._edge_x, self._edge_y) if double else (self._gx, self._gy)
        if (x and known_x is None) or (y and known_y is None):
            return ("f" if self._graph is None else "") + "b" + double
        return double if x or y or self._value is not None else "f"

    @graphs
    def _slope(self, x: bool, y: bool) -> None:
        """Work out gradients."""
        graph = self._fn(self._x, self._y, *self._rows) if self._graph is None else self._graph
        twice = self._order == 2
        self._graph, self._value = None if twice else graph, graph.detach()
        points = (self._x, self._y) if x and y else (self._x if x else self._y,)
        found = gradients(graph, points, create_graph=twice, keep=True)
        if x:
            self._gx, self._edge_x = found[0].detach(), edge(found[0]) if twice else None
        if y:
            self._gy, self._edge_y = found[-1].detach(), edge(found[-1]) if twice else None

    @graphs
    def value(self, *point: Any) -> Tensor:
        """fn(x, y)."""
        if self._value is None:
            self._graph = self._fn(self._x, self._y, *self._rows)
            self._value = self._graph.detach()
        return self._value

    def grad(self, *point: Any) -> tuple[Tensor, Tensor]:
        """Both partial gradients."""
        if self._gx is None or self._gy is None:
            self._slope(self._gx is None, self._gy is None)
        return self.grad_x(), self.grad_y()

    def grad_x(self, *point: Any) -> Tensor:
        """The partial gradient in x."""
        if self._gx is None:
            self._slope(True, False)
        gx, self._gx = self._gx, None
        assert gx is not None
        return gx

    def grad_y(self, *point: Any) -> Tensor:
        """The partial gradient in y."""
        if self._gy is None:
            self._slope(False, True)
        gy, self._gy = self._gy, None
        assert gy is not None
        return gy

    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]:
        """Products with second derivatives."""
        try:
            if self._edge_y is None:
                self._slope(False, True)
            if wrt == "xy":
                cross, hessian = products(self._edge_y, self._y, v, (self._x, self._y))
                return cross, hessian
            (product,) = products(self._edge_y, self._y, v, (self._x if wrt == "x" else self._y,))
            return (product, None) if wrt == "x" else (None, product)
        except RuntimeError as error:
            refuse_once(error)
            raise

    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
        """d2/dydx u."""
        try:
            if self._edge_x is None:
                self._slope(True, False)
            return products(self._edge_x, self._x, u, (self._y,))[0]
        except RuntimeError as error:
            refuse_once(error)
            raise
