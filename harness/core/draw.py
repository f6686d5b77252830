"""Randomness is data: everything random in a problem comes from one seed, drawn on the CPU in float64."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor


@dataclass
class Draw:
    """What a problem is built with: random numbers from a seed, and the way of its data to device and dtype.

    Draws are float64 tensors on the CPU whatever the run's device and dtype, so that a seed means the same problem
    everywhere. ``put`` hands finished data over: call it last, on everything that f and g read.
    """

    seed: int
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float64
    data: list[Tensor] = field(default_factory=list)  # what was put: the problem's own memory

    def __post_init__(self) -> None:
        self.numpy = np.random.default_rng(self.seed)  # PCG64; for protocols that are stated in NumPy's terms

    def child(self, name: str) -> Draw:
        """An independent draw that depends on (seed, name) only: a new one does not disturb the others."""
        child = Draw(self.seed, self.device, self.dtype, self.data)
        child.numpy = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return child

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.from_numpy(self.numpy.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers in [low, high)."""
        return torch.from_numpy(self.numpy.uniform(low, high, shape))

    def permutation(self, n: int) -> Tensor:
        """A permutation of 0..n-1 (int64)."""
        return torch.from_numpy(self.numpy.permutation(n))

    @overload
    def put(self, one: Any, /) -> Tensor: ...
    @overload
    def put(self, one: Any, two: Any, /, *more: Any) -> tuple[Tensor, ...]: ...
    def put(self, *arrays: Any) -> Tensor | tuple[Tensor, ...]:
        """Data on the run's device; floating-point numbers in the run's dtype, whole numbers and booleans kept."""
        placed = []
        for array in arrays:
            tensor = torch.as_tensor(array)
            placed.append(tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype))
        self.data.extend(placed)
        return placed[0] if len(placed) == 1 else tuple(placed)
