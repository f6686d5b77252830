"""The oracle's answers compiled one by one, for steps that are too long to be compiled as a whole.

Every kind of answer is recorded and compiled when it is first asked, and again for minibatches of another size; the
solver's own arithmetic stays eager. A gradient in an unrolled loop of any length is compiled once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from . import derive
from .derive import Function
from .traced import Accounts, Run, lift

Compile = Callable[[torch.fx.GraphModule, list[Tensor]], Run]


class Answers:
    """The eager engine's derivatives, each compiled when it is first asked. See ``derive.Derivatives``."""

    def __init__(self, compile: Compile, watch: Accounts | None) -> None:
        self._compile, self._watch = compile, watch
        self._made: dict[tuple[Any, ...], tuple[Run, list[Tensor]]] = {}

    def _ask(self, name: str, fn: Function, *points: Tensor, **options: str) -> Any:
        key = name, fn, *options.values(), *(point.shape for point in points)
        if key not in self._made:
            with self._watch.account("compile") if self._watch else contextlib.nullcontext():
                self._made[key] = self._build(name, fn, points, options)
        run, data = self._made[key]
        with torch.no_grad():
            return run(*points, *data)

    def _build(self, name: str, fn: Function, points: tuple[Tensor, ...], options: Any) -> tuple[Run, list[Tensor]]:
        def answer(*points: Tensor) -> list[Tensor]:
            found = getattr(derive, name)(fn, *points, **options)
            return [part for part in (found if isinstance(found, tuple) else (found,)) if part is not None]

        inputs = [point.clone() for point in points]
        graph = make_fx(answer)(*inputs)
        data = lift(graph)
        return self._compile(graph, inputs + data), data

    def value(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """fn(x, y)."""
        return self._one("value", fn, x, y, *rows)

    def grad(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """Both partial gradients."""
        gx, gy = self._ask("grad", fn, x, y, *rows)
        return gx, gy

    def grad_x(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """The partial gradient in x."""
        return self._one("grad_x", fn, x, y, *rows)

    def grad_y(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
        """The partial gradient in y."""
        return self._one("grad_y", fn, x, y, *rows)

    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]:
        """Products with second derivatives."""
        found = dict(zip(wrt, self._ask("second", fn, x, y, v, *rows, wrt=wrt), strict=True))
        return found.get("x"), found.get("y")

    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
        """d2/dydx u."""
        return self._one("cross_transposed", fn, x, y, u, *rows)

    def pullback(self, fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]:
        """w times the Jacobians of a function with values of shape (m,)."""
        return tuple(self._ask("pullback", fn, x, y, w, wrt=wrt))

    def pull_one(self, fn: Function, point: Tensor, w: Tensor) -> Tensor:
        """w times the Jacobian of a function of one variable."""
        return self._one("pull_one", fn, point, w)

    def keep(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> None:
        """Nothing: every answer is a graph of its own, worked out anew."""

    def _one(self, name: str, fn: Function, *points: Tensor) -> Tensor:
        found: Tensor = self._ask(name, fn, *points)[0]
        return found
