"""Flat parameter vectors: solvers see one-dimensional tensors, problems see the shapes of their model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Flat:
    """Splits a flat vector into views of given shapes and joins tensors into one.

    ``shapes``: of the tensors, in their order; ``size`` is how many numbers they have together.

    >>> weight, bias = Flat((3, 2), (3,)).split(torch.arange(9.0))
    """

    def __init__(self, *shapes: Sequence[int]) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.size = sum(self.sizes)

    def split(self, vector: Tensor) -> tuple[Tensor, ...]:
        """Views of a ``vector`` of shape (size,), one per shape. No copy. RuntimeError where its size is another."""
        parts = torch.split(vector, self.sizes)
        return tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))

    @staticmethod
    def join(tensors: Iterable[Tensor]) -> Tensor:
        """One vector, shape (size,), out of ``tensors`` of any shapes."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])
