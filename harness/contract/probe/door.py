"""The door through which a hypergradient reaches f and g: it counts passes back, and passes through those."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor


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
