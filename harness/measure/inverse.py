"""The inverse of the lower Hessian at one point, by its eigenvalues where y is short, by conjugate gradients otherwise.

Both say how far an answer may be off, and whether the curvature that they met is positive: what the judge certifies
rests on that. Nothing here has units: what is small is small beside the largest curvature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .level import Level, Product

NOT_FINITE = "second derivatives of g are not finite"
FLAT = 1e-13  # of the largest curvature: what is below is rounding, and as good as none
FLAT_BY_DIFFERENCES = 1e-8
FINEST_BY_DIFFERENCES = 1e-6  # residual, relative
SMALL = 1e-6  # of a vector: so little of it in flat directions is none
LEAST, MOST = 200, 2000  # steps of conjugate gradients at most, and twice as many as there are variables


class Solved(NamedTuple):
    """H^-1 v, at most ``off`` from it (a norm), and whether all curvature that was met is positive."""

    vector: Tensor
    off: float
    convex: bool


class Inverse(Protocol):
    """``largest``: the largest curvature that is known. ``valley(v)``: the norm of v's part along which g is flat."""

    largest: float

    def __call__(self, v: Tensor, tolerance: float, near: Tensor | None = None, length: float = 0.0) -> Solved: ...
    def valley(self, v: Tensor) -> float: ...


class Dense:
    """By eigenvalues; negative ones count as positive, so that -H^-1 times the gradient always descends."""

    def __init__(self, level: Level, y: Tensor, free: Tensor | None) -> None:
        matrix = level.matrix(y, free)
        if not bool(torch.isfinite(matrix).all()):
            raise ArithmeticError(NOT_FINITE)
        values, self._vectors = torch.linalg.eigh(matrix)
        self._free, self._n = free, y.numel()
        self.largest = float(values.abs().max()) if values.numel() else 0.0
        floor = (FLAT if level.twice else FLAT_BY_DIFFERENCES) * self.largest
        self._flat, self._rounding = values.abs() <= floor, torch.finfo(y.dtype).eps * self.largest
        self.convex = bool((values >= -floor).all())
        self.singular = bool(self._flat.any())
        self._sizes = values.abs().clamp(min=max(floor, torch.finfo(y.dtype).tiny))

    def __call__(self, v: Tensor, tolerance: float = 0.0, near: Tensor | None = None, length: float = 0.0) -> Solved:
        """H^-1 v; along flat directions as if the curvature were the least that can be told from none.

        What v has there is left out where it is small, or rounding of H times a vector of this ``length``.
        """
        parts = self._vectors.T @ self._held(v)
        nothing = max(SMALL * float(parts.norm()), 100 * self._rounding * length)
        found = torch.where(self._flat & (parts.abs() <= nothing), 0.0, parts / self._sizes)
        bent = self._sizes[~self._flat]
        off = float(self._rounding * found.norm() / bent.min()) if len(bent) else 0.0
        return Solved(self._spread(self._vectors @ found), off, self.convex)

    def valley(self, v: Tensor) -> float:
        """The norm of v's part in flat directions."""
        return float((self._vectors.T @ self._held(v))[self._flat].norm())

    def _held(self, v: Tensor) -> Tensor:
        return v if self._free is None else v[self._free]

    def _spread(self, v: Tensor) -> Tensor:
        if self._free is None:
            return v
        whole = v.new_zeros(self._n)
        whole[self._free] = v
        return whole


class Factor:
    """H^-1 of a point near by: what conjugate gradients need to come to an end in a few steps.

    The matrix itself: it only has to be near, and a product with it takes a third of what two triangles take.
    """

    def __init__(self, inverse: Tensor) -> None:
        self._inverse = inverse

    @classmethod
    def of(cls, level: Level, y: Tensor) -> Factor | None:
        """That of a point; None where its Hessian is not positive definite."""
        lower, failed = torch.linalg.cholesky_ex(level.matrix(y))
        return None if int(failed) or not bool(torch.isfinite(lower).all()) else cls(torch.cholesky_inverse(lower))

    def __call__(self, v: Tensor) -> Tensor:
        """H^-1 v."""
        return self._inverse @ v


class Iterated:
    """By conjugate gradients, preconditioned by the ``factor`` of a point near by; negative curvature ends them."""

    def __init__(self, level: Level, y: Tensor, free: Tensor | None, factor: Factor | None = None) -> None:
        product, mask = level.hessian(y), None if free is None else free.to(y.dtype)
        self._product: Product = product if mask is None else lambda v: mask * product(mask * v)
        self._factor: Callable[[Tensor], Tensor] = factor or (lambda v: v)
        self._mask, self.largest, self.least, self.convex = mask, 0.0, float("inf"), True
        self._finest, self._most = 0.0 if level.twice else FINEST_BY_DIFFERENCES, min(MOST, max(LEAST, 2 * y.numel()))

    def __call__(self, v: Tensor, tolerance: float = 1e-3, near: Tensor | None = None, length: float = 0.0) -> Solved:
        """H^-1 v with a residual of ``tolerance`` |v|, from ``near`` or zero."""
        v = v if self._mask is None else self._mask * v
        found = torch.zeros_like(v) if near is None else near.clone()
        rest = v - self._product(found) if near is not None else v.clone()
        ready = self._conditioned(rest)
        along, square, slope, goal = (
            ready.clone(), float(rest @ rest), float(rest @ ready),
            (max(tolerance, self._finest) * float(v.norm())) ** 2,
        )  # fmt: skip
        for _ in range(self._most):
            if square <= goal:
                break
            image = self._product(along)
            bend, size = float(along @ image), float(along @ along)
            if not math.isfinite(bend):
                raise ArithmeticError(NOT_FINITE)
            self.largest = max(self.largest, abs(bend) / size)
            if not bend > FLAT * self.largest * size:
                self.convex = False
                if not found.any() and bend:
                    found = found + (slope / abs(bend)) * along
                break
            self.least = min(self.least, bend / size)
            step = slope / bend
            found, rest = found + step * along, rest - step * image
            ready = self._conditioned(rest)
            square, slope, before = float(rest @ rest), float(rest @ ready), slope
            along = ready + (slope / before) * along
        return Solved(found, square**0.5 / self.least if square else 0.0, self.convex)

    def _conditioned(self, v: Tensor) -> Tensor:
        return self._factor(v) if self._mask is None else self._mask * self._factor(v)

    def valley(self, v: Tensor) -> float:
        """Not known: nothing flat has been met, or ``convex`` is False."""
        return 0.0
