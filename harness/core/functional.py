"""The functional engine: the derivatives of ``derive`` by ``torch.func``, which may stand inside ``torch.func.vmap``.

It takes 1.1 to 2.5 times as long as the eager engine on small problems.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import grad as _grad
from torch.func import grad_and_value as _grad_and_value
from torch.func import vjp as _vjp

from .autograd import Function, refuse_once
from .meter import PASSES

_AT = {"x": 0, "y": 1}


def value(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """fn(x, y), a scalar."""
    return fn(x.detach(), y.detach(), *rows)


def grad(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """Both partial gradients, shapes (n_x,) and (n_y,)."""
    gx, gy = _grad(fn, (0, 1))(x, y, *rows)
    return gx, gy


def grad_x(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in x, shape (n_x,)."""
    found: Tensor = _grad(fn, 0)(x, y, *rows)
    return found


def grad_y(fn: Function, x: Tensor, y: Tensor, *rows: Tensor) -> Tensor:
    """The partial gradient in y, shape (n_y,)."""
    found: Tensor = _grad(fn, 1)(x, y, *rows)
    return found


def second(
    fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
) -> tuple[Tensor | None, Tensor | None]:
    """(d2/dxdy v, d2/dydy v), the gradient of <grad_y fn, v>; None for a variable that is not in ``wrt``."""

    def along(x: Tensor, y: Tensor) -> Tensor:
        gy: Tensor = _grad(fn, 1)(x, y, *rows)
        return (gy * v).sum()

    try:
        found = dict(zip(wrt, _grad(along, tuple(_AT[name] for name in wrt))(x, y), strict=True))
    except RuntimeError as error:
        refuse_once(error)
        raise
    return found.get("x"), found.get("y")


def cross_transposed(fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
    """(d2/dydx u): the gradient in y of <grad_x fn, u>, u of shape (n_x,)."""

    def along(y: Tensor) -> Tensor:
        gx: Tensor = _grad(fn, 0)(x, y, *rows)
        return (gx * u).sum()

    try:
        found: Tensor = _grad(along)(y)
    except RuntimeError as error:
        refuse_once(error)
        raise
    return found


def pullback(fn: Function, x: Tensor, y: Tensor, w: Tensor, wrt: str = "xy") -> tuple[Tensor, ...]:
    """w times the Jacobians of a function with values of shape (m,), in the variables wanted."""
    found = dict(zip("xy", _vjp(fn, x, y)[1](w), strict=True))
    return tuple(found[name] for name in wrt)


def pull_one(fn: Function, point: Tensor, w: Tensor) -> Tensor:
    """w times the Jacobian of a function of one variable."""
    found: Tensor = _vjp(fn, point)[1](w)[0]
    return found


class keep:
    """The answers of this module about one function at one point: value, gradients and what second derivatives need are
    worked out by one pass, whichever of them is asked."""

    def __init__(self, fn: Function, x: Tensor, y: Tensor, *rows: Tensor, order: int) -> None:
        self._fn, self._point, self._rows = fn, (x, y), rows
        self._made: Any = None

    def passes(self, kind: str) -> str:
        """Those that an answer of a kind will take."""
        return ("" if self._made else "fb") + "d" * ("d" in PASSES[kind])

    def _ask(self) -> Any:
        """((gradient in x, in y), what pulls a pair back through them, value)."""
        if self._made is None:

            def slopes(x: Tensor, y: Tensor) -> Any:
                return _grad_and_value(self._fn, (0, 1))(x, y, *self._rows)

            try:
                self._made = _vjp(slopes, *self._point, has_aux=True)
            except RuntimeError as error:
                refuse_once(error)
                raise
        return self._made

    def _back(self, in_x: Tensor, in_y: Tensor) -> tuple[Tensor, Tensor]:
        try:
            pair: tuple[Tensor, Tensor] = self._ask()[1]((in_x, in_y))
        except RuntimeError as error:
            refuse_once(error)
            raise
        return pair

    def value(self, *point: Any) -> Tensor:
        """fn(x, y)."""
        found: Tensor = self._ask()[2]
        return found.detach()

    def grad(self, *point: Any) -> tuple[Tensor, Tensor]:
        """Both partial gradients."""
        gx, gy = self._ask()[0]
        return gx.detach(), gy.detach()

    def grad_x(self, *point: Any) -> Tensor:
        """The partial gradient in x."""
        return self.grad()[0]

    def grad_y(self, *point: Any) -> Tensor:
        """The partial gradient in y."""
        return self.grad()[1]

    def second(
        self, fn: Function, x: Tensor, y: Tensor, v: Tensor, *rows: Tensor, wrt: str = "xy"
    ) -> tuple[Tensor | None, Tensor | None]:
        """Products with second derivatives."""
        cross, hessian = self._back(torch.zeros_like(self._point[0]), v)
        return cross if "x" in wrt else None, hessian if "y" in wrt else None

    def cross_transposed(self, fn: Function, x: Tensor, y: Tensor, u: Tensor, *rows: Tensor) -> Tensor:
        """d2/dydx u."""
        return self._back(u, torch.zeros_like(self._point[1]))[1]
