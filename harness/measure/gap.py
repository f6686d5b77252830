"""g(x, y) - g(x, y*) to its last digits: near y* the difference of two large numbers has none left."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevelbench.core import derive

ENOUGH = 1e-10  # relative error up to which the plain difference is as good
RULES = {  # Gauss and Legendre's nodes and weights on [0, 1]
    2: ((0.21132486540518713, 0.5), (0.7886751345948129, 0.5)),
    3: ((0.1127016653792583, 5 / 18), (0.5, 8 / 18), (0.8872983346207417, 5 / 18)),
}


def gap(g: derive.Function, x: Tensor, y: Tensor, best: Tensor) -> float:
    """g(x, y) - g(x, best).

    The mean slope of g on the way from ``best`` to ``y``, times the way: near a minimiser the second-order form, exact
    for quadratics, and of it and the plain difference the one that may be off by less. g need be differentiable once.
    """
    first, last = float(derive.value(g, x, y)), float(derive.value(g, x, best))
    plain = first - last
    off = 4 * torch.finfo(y.dtype).eps * (abs(first) + abs(last))
    if off <= ENOUGH * abs(plain):
        return plain
    way = y - best
    rough, fine = (
        sum(weight * float(derive.grad_y(g, x, best + node * way) @ way) for node, weight in RULES[k]) for k in RULES
    )
    return fine if abs(fine - rough) < off else plain
