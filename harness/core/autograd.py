"""What the eager engine makes of ``torch.autograd``: gradients, fast where small, and words for what it lacks."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from .errors import Unsupported

Function = Callable[..., Tensor]
P = ParamSpec("P")
T = TypeVar("T")


def leaf(point: Tensor) -> Tensor:
    """The point as one in which things can be differentiated."""
    return point.detach().requires_grad_()


EDGES = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)  # may be differentiated in place of tensors

# What ``torch.autograd.grad`` calls in the end. Its checks take 25 us a call, half of a small gradient: a method that
# asks for many small things would pay more for them than one that asks for few.
_backward = torch.autograd.Variable._execution_engine.run_backward


def gradients(
    value: Tensor, points: tuple[Tensor, ...], along: Tensor | None = None, create_graph: bool = False,
    keep: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of a value, or of <value, along>, at one or two points."""
    if not value.requires_grad:  # the function is constant in these variables
        return tuple([torch.zeros_like(p) for p in points])
    keep = keep or create_graph
    if along is None:
        sound = not value.dim() and value.is_floating_point()
    else:
        sound = along.shape == value.shape and along.dtype is value.dtype
    if not sound:  # torch has the words
        return torch.autograd.grad(value, points, along, keep, create_graph, materialize_grads=True)
    along = torch.ones_like(value) if along is None else along
    found = _backward((value,), (along,), keep, create_graph, points, allow_unreachable=True, accumulate_grad=False)
    if found[0] is None or found[-1] is None:
        return tuple([torch.zeros_like(p) if part is None else part for part, p in zip(found, points, strict=True)])
    return found


Edge = Any  # where a tensor hangs on its graph, without its numbers; False where it hangs on none


def edge(slope: Tensor) -> Edge:
    """Where a gradient hangs on its graph. The tensor itself would keep its numbers, as many as the point has."""
    if not slope.requires_grad:
        return False
    return get_gradient_edge(slope) if EDGES else slope


def products(of: Edge, point: Tensor, along: Tensor, points: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The gradients of <slope, along> at some points, ``of`` the edge of the slope at ``point``. The graph is kept."""
    if along.shape != point.shape or along.dtype is not point.dtype:
        said = f"{along.dtype} of shape {tuple(along.shape)}"
        raise RuntimeError(
            f"a product takes a vector like the point, {point.dtype} of shape {tuple(point.shape)}, not {said}"
        )
    if of is False:  # a constant gradient
        return tuple([torch.zeros_like(p) for p in points])
    found = _backward((of,), (along.detach(),), True, False, points, allow_unreachable=True, accumulate_grad=False)
    if found[0] is None or found[-1] is None:
        return tuple([torch.zeros_like(p) if part is None else part for part, p in zip(found, points, strict=True)])
    return found


def refuse_once(error: RuntimeError) -> None:
    """Where the error says that torch has no second derivative, ``Unsupported`` says of what and what to do."""
    lacking = re.search(r"derivative for '?(?:aten::)?(\w+)'? is not implemented", str(error))
    if not lacking and "differentiate twice" not in str(error):
        return
    name = lacking[1].strip("_").removesuffix("_backward") if lacking else "one of its functions"
    name, remedy = ("its fused attention", ATTENTION) if "attention" in name else (name, OTHERS)
    raise Unsupported(f"the problem cannot be differentiated twice, torch has no second derivative of {name}; {remedy}")


ATTENTION = "call it under torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), which has one"
OTHERS = "make it of functions that have one, or take solvers that ask for none (order 1)"


def graphs(work: Callable[P, T]) -> Callable[P, T]:
    """What works where graphs are made, also for a solver that has switched them off for itself. To enter the mode
    where it is on already takes 3 us, a twentieth of a small gradient."""

    @functools.wraps(work)
    def working(*arguments: P.args, **options: P.kwargs) -> T:
        if torch.is_grad_enabled():
            return work(*arguments, **options)
        with torch.enable_grad():
            return work(*arguments, **options)

    return working
