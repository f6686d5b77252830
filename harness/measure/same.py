"""Whether two packed states (``marks.pack``) are the same but for rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NUDGE = 8  # units in the last place by which a state is moved to see what rounding does to the steps after it
EASE = 32  # of what that does: an engine rounds at each operation, not once


def unequal(
    now: Any,
    then: Any,
    close: Mapping[torch.dtype, float],
    kinds: Mapping[str, type],
    other: Any = None,
    name: str = "its state",
) -> str:
    """Where two packed states differ, in words, or ''.

    close: how far a tensor may be off, relative to its largest entry. other: what the same steps make of a state moved
    by ``nudged``, or None. Where a part of that is further from ``now`` than ``close`` allows, the steps themselves
    magnify rounding (a gradient that has vanished is all noise, and so are the moments made of it): a multiple of it
    is allowed.
    """
    if isinstance(now, Tensor) and isinstance(then, Tensor):
        return _differ(now, then, close, other, name)
    if isinstance(now, list) and isinstance(then, list) and now[:2] == then[:2] and len(now) == len(then):
        fields = getattr(kinds.get(str(now[1])), "_fields", ()) if now[0] == "named" else ()
        names = fields or [f"{name}[{i}]" for i in range(len(now) - 2)]
        others = other[2:] if isinstance(other, list) and len(other) == len(now) else [None] * len(names)
        parts = zip(now[2:], then[2:], others, names, strict=True)
        return next((said for a, b, c, part in parts if (said := unequal(a, b, close, kinds, c, part))), "")
    if isinstance(now, float) and isinstance(then, float):
        moved = torch.tensor(other).double() if isinstance(other, float) else None
        return _differ(torch.tensor(now).double(), torch.tensor(then).double(), close, moved, name)
    return "" if not isinstance(now, Tensor) and now == then else f"{name} is another thing"


def nudged(packed: Any) -> Any:
    """A packed state whose floating tensors are moved by ``NUDGE`` units in the last place, up or down by turns."""
    if isinstance(packed, Tensor) and packed.is_floating_point():
        turns = torch.ones_like(packed).flatten()
        turns[::2] = -1
        return packed * (1 + NUDGE * torch.finfo(packed.dtype).eps * turns.view_as(packed))
    return [*packed[:2], *map(nudged, packed[2:])] if isinstance(packed, list) else packed


def _differ(now: Tensor, then: Tensor, close: Mapping[torch.dtype, float], other: Any, name: str) -> str:
    if now.shape != then.shape or now.dtype != then.dtype:
        return f"{name} has another shape"
    if torch.equal(now, then):
        return ""
    scale = float(then.double().nan_to_num().abs().max()) if then.numel() else 0.0
    may = close.get(now.dtype, 0.0) * scale
    if isinstance(other, Tensor) and other.shape == now.shape:
        rounding = float((now.double() - other.double()).nan_to_num().abs().max())
        may = max(may, EASE * rounding)
    if torch.allclose(now, then, 0.0, may, equal_nan=True):
        return ""
    by = float((now.double() - then.double()).abs().max()) / (scale or 1.0)
    return f"{name} differs by {by:.1e} of its size"
