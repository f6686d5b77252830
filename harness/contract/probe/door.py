"""The door through which a hypergradient reaches f and g: it counts passes back, and passes through those.

Two ways, which count the same. Hooks on x and on y cost microseconds and leave alone what nobody asks for: a gradient
in y computes none in x. Under the transforms of ``torch.func`` and with tangents ahead there are no hooks to be had, so
x and y then go through a function of their own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def through(x: Tensor, y: Tensor, counter: Counter[str], name: str) -> tuple[Tensor, Tensor]:
    """x and y; passes back that reach either count once as ``NAME back``, those through the slopes there as
    ``NAME back back`` and so on, tangents that go ahead as ``NAME ahead``."""
    if torch._C._are_functorch_transforms_active() or any(
        forward_ad.unpack_dual(t).tangent is not None for t in (x, y)
    ):
        return Door.apply(x, y, counter, name)
    door = Hooks(counter, name)
    return door.watched(x), door.watched(y)


class Hooks:
    """Counts the passes back through some tensors, each once however many of them it reaches."""

    def __init__(self, counter: Counter[str], name: str) -> None:
        self._counter, self._name = counter, f"{name} back"
        self._task = -1
        self._slopes: Hooks | None = None  # of the pass under way

    def watched(self, tensor: Tensor) -> Tensor:
        """The tensor, as one whose passes back count."""
        tensor = tensor.view_as(tensor)
        if tensor.requires_grad:
            tensor.register_hook(self._pass)
        return tensor

    def _pass(self, slope: Tensor) -> Tensor | None:
        task = torch._C._current_graph_task_id()  # of torch.autograd.graph: no two passes have the same
        if task != self._task:
            self._task = task
            self._counter[self._name] += 1
            self._slopes = None
        if not slope.requires_grad:
            return None
        self._slopes = self._slopes or Hooks(self._counter, self._name)
        return self._slopes.watched(slope)


class Door(torch.autograd.Function):
    """The identity of x and y, which counts the passes back through it, and those through passes back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, counter: Counter[str], name: str) -> tuple[Tensor, Tensor]:
        return x.view_as(x), y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.counter, ctx.name = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        ctx.counter[f"{ctx.name} back"] += 1
        return *Door.apply(slopes[0], slopes[1], ctx.counter, f"{ctx.name} back"), None, None

    @staticmethod
    def jvp(ctx: Any, *along: Any) -> Any:
        ctx.counter[f"{ctx.name} ahead"] += 1
        return along[0].view_as(along[0]), along[1].view_as(along[1])
