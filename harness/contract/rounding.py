"""When two computations of one thing are the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

CLOSE = 1e-10  # of a tensor's norm: a few steps of a well-conditioned computation in float64, and far below any change


def same(one: Any, other: Any) -> bool:
    """Equal but for rounding, leaf by leaf; what is no fraction (counts, indices, shapes, words) is equal exactly.

    Not to the bit, even within a process: the last bit of a product depends on where in memory its factors lie. A NaN
    is the same as nothing.
    """
    return all(_near(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))


def _near(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and a.is_floating_point():
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.equal(a, b) or float((a - b).norm()) <= CLOSE * float(b.norm()) + 1e-14
    if isinstance(a, float):
        return a == b or math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-14)
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)
