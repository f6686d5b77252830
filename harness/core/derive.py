"""The eager engine: derivatives of a scalar function of two flat vectors by ``torch.autograd.grad``.

``torch.autograd.grad`` rather than ``torch.func.grad``: it takes 0.4 to 0.9 times as long on problems of this size.
Every answer is detached. A function that does not depend on a variable has a zero derivative there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .errors import Unsupported

Function = Callable[..., Tensor]


class Derivatives(Protocol):
    """What an oracle asks of an engine. This module is one, ``functional`` another."""

    def value(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def grad(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]: ...
    def grad_x(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def grad_y(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]: ...
    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor: ...
    def pullback(self, fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]: ...
    def pull_one(self, fn: Function, point: Tensor, w: Tensor) -> Tensor: ...


def _leaf(point: Tensor) -> Tensor:
    return point.detach().requires_grad_()


def _grad(
    value: Tensor, points: tuple[Tensor, ...], along: Tensor | None = None, create_graph: bool = False
) -> tuple[Tensor, ...]:
    if not value.requires_grad:  # the function is constant in these variables
        return tuple(torch.zeros_like(p) for p in points)
    return torch.autograd.grad(value, points, along, create_graph=create_graph, materialize_grads=True)


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


def value(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """fn(x, y), a scalar."""
    with torch.no_grad():
        return fn(x, y, *rows)


def grad(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """Both partial gradients, shapes (n_x,) and (n_y,)."""
    with torch.enable_grad():
        x, y = _leaf(x), _leaf(y)
        gx, gy = _grad(fn(x, y, *rows), (x, y))
    return gx, gy


def grad_x(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in x, shape (n_x,)."""
    with torch.enable_grad():
        x = _leaf(x)
        return _grad(fn(x, y.detach(), *rows), (x,))[0]


def grad_y(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in y, shape (n_y,)."""
    with torch.enable_grad():
        y = _leaf(y)
        return _grad(fn(x.detach(), y, *rows), (y,))[0]


def second(
    fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
) -> tuple[Tensor | None, Tensor | None]:
    """Products of v, shape (n_y,), with second derivatives: (d2/dxdy v, d2/dydy v), the gradient of <grad_y fn, v>.

    ``wrt`` names the variables wanted, "x", "y" or "xy"; the other product is None and costs nothing. ``Unsupported``
    where torch has no second derivative.
    """
    with torch.enable_grad():
        y = _leaf(y)
        x = _leaf(x) if "x" in wrt else x.detach()
        wanted = tuple(p for p, name in ((x, "x"), (y, "y")) if name in wrt)
        try:
            (gy,) = _grad(fn(x, y, *rows), (y,), create_graph=True)
            products = iter(_grad(gy, wanted, v.detach()))
        except RuntimeError as error:
            refuse_once(error)
            raise
    return next(products) if "x" in wrt else None, next(products) if "y" in wrt else None


def cross_transposed(fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
    """(d2/dydx u): the gradient in y of <grad_x fn, u>, u of shape (n_x,)."""
    with torch.enable_grad():
        x, y = _leaf(x), _leaf(y)
        try:
            (gx,) = _grad(fn(x, y, *rows), (x,), create_graph=True)
            return _grad(gx, (y,), u.detach())[0]
        except RuntimeError as error:
            refuse_once(error)
            raise


def pullback(fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]:
    """w times the Jacobians of a function with values of shape (m,): gradients of <fn, w> in the variables wanted."""
    with torch.enable_grad():
        points = {"x": _leaf(x) if "x" in wrt else x.detach(), "y": _leaf(y) if "y" in wrt else y.detach()}
        return _grad(fn(points["x"], points["y"]), tuple(points[name] for name in wrt), w.detach())


def pull_one(fn: Function, point: Tensor, w: Tensor) -> Tensor:
    """w times the Jacobian of a function of one variable."""
    with torch.enable_grad():
        leaf = _leaf(point)
        return _grad(fn(leaf), (leaf,), w.detach())[0]
