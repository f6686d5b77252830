"""The lower objective at one x, as the judge asks it: values, gradients, products with its Hessian, counted.

One gradient of g is the unit. On a graph that is kept a product with the Hessian costs about as much and counts as one,
and half in a batch of them. By differences of gradients, where torch has no second derivative, it counts two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bilevelbench.core import derive

Product = Callable[[Tensor], Tensor]

CHUNK = 64  # products at once
RELATIVE = 6e-6  # of y's own length: a step of central differences in float64, the cube root of its rounding


class Spent(Exception):
    """What may be asked of g at this look has been asked."""


class Level:
    """g(x, .), shape of y (n,), within bounds or without.

    ``twice``: torch has its second derivatives; otherwise products are differences of gradients. ``allowance``: how
    many gradients may be asked, after which ``Spent`` is raised. ``bounds``: (low, high), each of shape (n,), or None.
    """

    def __init__(
        self, g: derive.Function, x: Tensor, twice: bool = True, allowance: float = math.inf,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self._g, self.x, self.twice, self.bounds = g, x.detach(), twice, bounds
        self.asked, self.allowance = 0.0, allowance

    def charge(self, gradients: float) -> None:
        """Count what is about to be asked, or raise ``Spent``."""
        if self.asked + gradients > self.allowance:
            raise Spent
        self.asked += gradients

    def look(self, y: Tensor) -> tuple[float, Tensor]:
        """(g, its gradient in y)."""
        self.charge(1)
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            value = self._g(self.x, leaf)
            if not value.requires_grad:
                return float(value), torch.zeros_like(y)
            slope = torch.autograd.grad(value, leaf, materialize_grads=True)[0]
        return float(value.detach()), slope

    def inside(self, y: Tensor) -> Tensor:
        """The nearest point within the bounds."""
        return y if self.bounds is None else torch.minimum(torch.maximum(y, self.bounds[0]), self.bounds[1])

    def free(self, y: Tensor, slope: Tensor) -> Tensor | None:
        """Which variables may move: not those that g pushes against their bound. None for all."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return ~(((y <= low) & (slope > 0)) | ((y >= high) & (slope < 0)))

    def hessian(self, y: Tensor) -> Product:
        """v -> d2g/dydy v at y."""
        return self._by_graph(y) if self.twice else self._by_differences(y)

    def _by_graph(self, y: Tensor) -> Product:
        self.charge(1)
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            value = self._g(self.x, leaf)
            slope = (
                torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)[0]
                if value.requires_grad
                else torch.zeros_like(y)
            )

        def product(v: Tensor) -> Tensor:
            self.charge(1 if v.ndim == 1 else len(v) / 2)
            if not slope.requires_grad:
                return torch.zeros_like(v)
            return torch.autograd.grad(
                slope, leaf, v, retain_graph=True, materialize_grads=True, is_grads_batched=v.ndim > 1
            )[0]

        return product

    def _by_differences(self, y: Tensor) -> Product:
        scale = float(y.norm())

        def product(v: Tensor) -> Tensor:
            size = float(v.norm())
            if not size:
                return torch.zeros_like(v)
            slope = self._difference(y, v, size, RELATIVE * (scale or 1.0))
            if scale or not float(slope.norm()):
                return slope
            length = float(self.look(y)[1].norm()) * size / float(slope.norm())  # at 0 the slope tells how long y is
            return self._difference(y, v, size, RELATIVE * length) if length else slope

        return product

    def _difference(self, y: Tensor, v: Tensor, size: float, length: float) -> Tensor:
        h = length / size
        return (self.look(y + h * v)[1] - self.look(y - h * v)[1]) / (2 * h)

    def matrix(self, y: Tensor, free: Tensor | None = None) -> Tensor:
        """The Hessian of the free variables, (m, m), symmetric."""
        product, unit = self.hessian(y), torch.eye(y.numel(), dtype=y.dtype, device=y.device)
        unit = unit if free is None else unit[free]
        if not len(unit):  # all of y is held by its bounds
            return unit.new_zeros(0, 0)
        if not self.twice:
            rows = [product(row) for row in unit]
        else:
            try:
                rows = [part for chunk in torch.split(unit, CHUNK) for part in product(chunk)]
            except RuntimeError:  # something in it cannot be batched
                rows = [product(row) for row in unit]
        whole = torch.stack(rows)
        whole = whole if free is None else whole[:, free]
        return (whole + whole.T) / 2

    def cross(self, y: Tensor, v: Tensor) -> Tensor:
        """d2g/dxdy v, shape of x."""
        self.charge(2)
        if self.twice:
            found, _ = derive.second(self._g, self.x, y, v, wrt="x")
            assert found is not None
            return found
        size = float(v.norm())
        if not size:
            return torch.zeros_like(self.x)
        h = RELATIVE * (float(y.norm()) or size) / size
        ahead, behind = (derive.grad_x(self._g, self.x, y + sign * h * v) for sign in (1, -1))
        return (ahead - behind) / (2 * h)
