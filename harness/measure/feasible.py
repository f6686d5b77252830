"""Whether constraints h(x, y) <= 0 hold at a point, and by how much they do not."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevelbench.core import derive

FEASIBLE = 1e-8  # of its own terms: violation of a constraint above, up to which Phi counts as it is
MOST_VIOLATED = 20  # constraints that are held to that


def violation(h: derive.Function | None, x: Tensor, y: Tensor) -> float:
    """The largest entry of h(x, y), 0 where none is above it."""
    return 0.0 if h is None else max(0.0, float(derive.value(h, x, y).max()))


def infeasible(h: derive.Function | None, x: Tensor, y: Tensor) -> bool:
    """Whether one of h(x, y) <= 0 is violated by more than a small part of what x and y each contribute to it."""
    if h is None:
        return False
    with torch.enable_grad():
        both = x.detach().requires_grad_(), y.detach().requires_grad_()
        values = h(*both).reshape(-1)
        for value in values.topk(min(MOST_VIOLATED, len(values))).values:
            slopes = torch.autograd.grad(value, both, retain_graph=True, materialize_grads=True)
            terms = sum(float(slope.norm() * point.detach().norm()) for slope, point in zip(slopes, both, strict=True))
            if float(value.detach()) > FEASIBLE * terms:
                return True
    return False
