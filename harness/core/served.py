"""A library's side of ``library``: f and g as functions that torch differentiates, each question sent to the oracle.

    python served.py FILE

FILE has ``hypergradient(f, g, x, y)``. It imports nothing of bilevelbench: its environment is another one. A value, a
gradient and a product with second derivatives are asked when, and only when, something depends on them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Tensor], Tensor]


class Node(torch.autograd.Function):
    """A value whose derivative in one point is given by a rule, which may be differentiated itself."""

    @staticmethod
    def forward(ctx: Any, point: Tensor, value: Tensor, rule: Rule) -> Tensor:
        ctx.rule = rule
        return value.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return ctx.rule(up), None, None


def node(point: Tensor, value: Tensor, rule: Rule) -> Tensor:
    """``value`` as a function of ``point``."""
    made: Tensor = Node.apply(point, value, rule)
    return made


class Door:
    """f and g, by way of questions."""

    def __init__(self, send: Callable[[Any], None], receive: Callable[[], Any], dtype: torch.dtype) -> None:
        self._send, self._receive, self._dtype = send, receive, dtype

    def _ask(self, what: str, *points: Tensor) -> list[Tensor]:
        self._send({"ask": what, "at": [point.detach().tolist() for point in points]})
        return [torch.tensor(part, dtype=self._dtype) for part in self._receive()]

    def _none(self, what: str) -> Rule:
        def refuse(up: Tensor) -> Tensor:
            raise NotImplementedError(f"the library asks for {what}, which the oracle does not answer")

        return refuse

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """f(x, y), to be differentiated once."""
        kept: list[Tensor] = []

        def slope(k: int, point: Tensor, up: Tensor) -> Tensor:
            kept.extend([] if kept else self._ask("df", x, y))
            return up * node(point, kept[k], self._none("second derivatives of f"))

        (value,) = self._ask("f", x, y)
        return node(x, value, lambda up: slope(0, x, up)) + node(y, 0 * value, lambda up: slope(1, y, up))

    def g(self, x: Tensor, y: Tensor) -> Tensor:
        """g(x, y), to be differentiated twice, but for d2g/dxdx."""

        def g_x() -> Tensor:
            (value,) = self._ask("dg_x", x, y)
            return node(x, value, self._none("d2g/dxdx")) + node(
                y, 0 * value, lambda u: self._ask("d2g_yx", x, y, u)[0]
            )

        def g_y() -> Tensor:
            (value,) = self._ask("dg_y", x, y)
            cross = node(x, value, lambda v: self._ask("d2g_xy", x, y, v)[0])
            return cross + node(y, 0 * value, lambda v: self._ask("d2g_yy", x, y, v)[0])

        (value,) = self._ask("g", x, y)
        return node(x, value, lambda up: up * g_x()) + node(y, 0 * value, lambda up: up * g_y())


def main(file: str) -> None:
    """Answer until the other side ends."""
    del sys.path[0]  # this folder, whose modules have names that others may have, too
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def send(what: Any) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    def receive() -> Any:
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        return json.loads(line)

    spec = importlib.util.spec_from_file_location("served", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    while True:
        said = receive()
        dtype = getattr(torch, said["dtype"])
        x, y = (torch.tensor(said[name], dtype=dtype, requires_grad=True) for name in "xy")
        door = Door(send, receive, dtype)
        try:
            answer = module.hypergradient(door.f, door.g, x, y)
            answer = answer[0] if isinstance(answer, tuple | list) else answer
            send({"answer": answer.detach().tolist()})
        except Exception as error:
            send({"failed": (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:300]})


if __name__ == "__main__":
    main(*sys.argv[1:])
