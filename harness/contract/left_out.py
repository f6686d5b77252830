"""Where a function leaves its graph, so that its derivatives by torch are not its own: detach, .data, no_grad, item."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WAYS = {
    Tensor.detach: "detach", Tensor.detach_: "detach", Tensor.item: "item", Tensor.tolist: "tolist",
    Tensor.numpy: "numpy", Tensor.__float__: "float", Tensor.data.__get__: ".data",  # type: ignore[attr-defined]
}  # fmt: skip
OURS = tuple(str(Path(module.__file__).parent) for module in (torch, sys.modules["bilevelbench"]) if module.__file__)


class _Watch(TorchFunctionMode):
    """Notes the first line that takes what depends on x or y out of the graph."""

    def __init__(self, points: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self._points, self.found = points, ""

    def _depends(self, part: Any) -> bool:
        if not isinstance(part, Tensor) or not part.requires_grad:
            return False
        with torch.enable_grad():
            slopes = torch.autograd.grad(part.sum(), self._points, retain_graph=True, allow_unused=True)
        return any(slope is not None for slope in slopes)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        way = WAYS.get(func) or ("" if torch.is_grad_enabled() else "no_grad")
        if way and not self.found and any(map(self._depends, args)):
            self.found = _said(way)
        return func(*args, **(kwargs or {}))


def _said(way: str) -> str:
    """The way, and the line of somebody's own by which it was taken."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(name).name}, line {line}, takes it out of the graph ({way}): {linecache.getline(name, line).strip()}"


def left_out(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> str:
    """The first line in which something that depends on x or y leaves the graph of ``function(x, y)``, or ''.

    ``no_grad`` counts, too. A line of torch's own or of this package is told by the line that called it.
    """
    points = x.detach().requires_grad_(), y.detach().requires_grad_()
    with torch.enable_grad(), _Watch(points) as watch:
        function(*points)
    return watch.found
