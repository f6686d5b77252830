"""Minibatch streams: minibatch k of a stream is a pure function of (seed, stream, step, k).

The same for every solver, so comparisons are paired, and a run that is resumed meets the minibatches that it would
have met.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, stream: str, step: int, k: int) -> np.random.Generator:
    """The source of the k-th random thing of a stream within a step."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), step, k])


def minibatch(seed: int, stream: str, step: int, k: int, n: int, size: int) -> Tensor:
    """The k-th minibatch of a stream within a step: ``size`` indices below ``n``, uniform without replacement."""
    if not 1 <= size <= n:
        raise ValueError(f"a minibatch of {size} rows cannot be drawn from {n}")
    return torch.from_numpy(generator(seed, stream, step, k).choice(n, size, replace=False, shuffle=False))
