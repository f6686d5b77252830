"""The eager engine: derivatives of a scalar function of two flat vectors by ``torch.autograd.grad``.

``torch.autograd.grad`` rather than ``torch.func.grad``: it takes 0.4 to 0.9 times as long on problems of this size.
Every answer is detached. A function that does not depend on a variable has a zero derivative there.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .autograd import Function as Function
from .autograd import gradients, graphs, leaf, refuse_once
from .kept import Kept


class Answering(Protocol):
    """What answers about f or g: an engine, or what it keeps at one point."""

    def value(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def grad(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]: ...
    def grad_x(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def grad_y(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor: ...
    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]: ...
    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor: ...


class Keeping(Answering, Protocol):
    """What an engine keeps of a function at a point, which questions name again.

    ``passes``: those that an answer of a kind will take, fewer where it is known in part (see ``meter.PASS``).
    """

    def passes(self, kind: str) -> str: ...


class Derivatives(Answering, Protocol):
    """What an oracle asks of an engine. This module is one, ``functional`` another.

    ``keep`` answers about one function at one point, and keeps what it worked out; only where ``order`` is 2 it is
    asked for products with second derivatives. None: the engine keeps nothing.
    """

    def pullback(self, fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]: ...
    def pull_one(self, fn: Function, point: Tensor, w: Tensor) -> Tensor: ...
    def keep(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> Keeping | None: ...


def value(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """fn(x, y), a scalar."""
    with torch.no_grad():  # it does not hold off forward derivatives; detached points do
        return fn(x.detach(), y.detach(), *rows)


@graphs
def grad(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """Both partial gradients, shapes (n_x,) and (n_y,)."""
    x, y = leaf(x), leaf(y)
    gx, gy = gradients(fn(x, y, *rows), (x, y))
    return gx, gy


@graphs
def grad_x(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in x, shape (n_x,)."""
    x = leaf(x)
    return gradients(fn(x, y.detach(), *rows), (x,))[0]


@graphs
def grad_y(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in y, shape (n_y,)."""
    y = leaf(y)
    return gradients(fn(x.detach(), y, *rows), (y,))[0]


@graphs
def second(
    fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
) -> tuple[Tensor | None, Tensor | None]:
    """Products of v, shape (n_y,), with second derivatives: (d2/dxdy v, d2/dydy v), the gradient of <grad_y fn, v>.

    ``wrt`` names the variables wanted, "x", "y" or "xy"; the other product is None and costs nothing. ``Unsupported``
    where torch has no second derivative.
    """
    y = leaf(y)
    x = leaf(x) if "x" in wrt else x.detach()
    wanted = tuple(p for p, name in ((x, "x"), (y, "y")) if name in wrt)
    try:
        (gy,) = gradients(fn(x, y, *rows), (y,), create_graph=True)
        products = iter(gradients(gy, wanted, v.detach()))
    except RuntimeError as error:
        refuse_once(error)
        raise
    return next(products) if "x" in wrt else None, next(products) if "y" in wrt else None


@graphs
def cross_transposed(fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
    """(d2/dydx u): the gradient in y of <grad_x fn, u>, u of shape (n_x,)."""
    x, y = leaf(x), leaf(y)
    try:
        (gx,) = gradients(fn(x, y, *rows), (x,), create_graph=True)
        return gradients(gx, (y,), u.detach())[0]
    except RuntimeError as error:
        refuse_once(error)
        raise


@graphs
def pullback(fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]:
    """w times the Jacobians of a function with values of shape (m,): gradients of <fn, w> in the variables wanted."""
    points = {"x": leaf(x) if "x" in wrt else x.detach(), "y": leaf(y) if "y" in wrt else y.detach()}
    return gradients(fn(points["x"], points["y"]), tuple(points[name] for name in wrt), w.detach())


@graphs
def pull_one(fn: Function, point: Tensor, w: Tensor) -> Tensor:
    """w times the Jacobian of a function of one variable."""
    at = leaf(point)
    return gradients(fn(at), (at,), w.detach())[0]


def keep(fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> Keeping:
    """The same answers about one function at one point, of which what was worked out is kept."""
    return Kept(fn, x, y, *rows, order=order)
