"""A solve that can be taken up again: its state to the last bit, its counts and its history, in one safetensors file.

The tensors of the state are stored as they are; how they make up the state, and all numbers, are JSON in the file's
metadata, where floats come back as they were. So nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilevelbench.core.errors import RequestError
from bilevelbench.core.meter import Counts
from bilevelbench.measure.marks import pack, unpack
from bilevelbench.store import files, points

FORMAT = 1
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of f and g at the start: other machines have other last digits


class Saved(NamedTuple):
    """Where a solve stands."""

    step: int
    state: Any
    counts: Counts
    history: list[dict[str, Any]]
    status: str


def write(path: Path, saved: Saved, about: dict[str, Any]) -> None:
    """Write where a solve stands. ``about``: what a solve must be to be continued from here, numbers and texts."""
    tensors: list[Tensor] = []
    told = {
        "format": FORMAT, "about": about, "step": saved.step, "state": _plain(pack(saved.state), tensors),
        "counts": [[*answer, n] for answer, n in saved.counts.items()], "history": saved.history,
        "status": saved.status,
    }  # fmt: skip
    arrays = {str(k): tensor.contiguous().numpy() for k, tensor in enumerate(tensors)}
    try:
        points.write(path, arrays, {"bilevelbench": json.dumps(told)})
    except OSError as error:
        raise RequestError(
            f"checkpoint {path} cannot be written ({error.strerror}); name a file in a folder that you can write"
        ) from None


def read(path: Path, about: dict[str, Any], kinds: dict[str, type], device: torch.device) -> Saved:
    """Where a solve stands, or a ``RequestError``: the file is none of ours, or another solve's."""
    try:
        arrays, metadata = points.read(path)
        told = json.loads(metadata["bilevelbench"])
        if told["format"] != FORMAT:
            raise RequestError(f"checkpoint {path} has format {told['format']}, this version reads {FORMAT}")
        if said := _differs(told["about"], about):
            raise RequestError(f"checkpoint {path} is of another solve: {said}; name another file")
        state = unpack(_packed(told["state"], arrays), kinds, device)
        counts: Counts = {(str(kind), rows, int(passes)): int(n) for kind, rows, passes, n in told["counts"]}
        return Saved(int(told["step"]), state, counts, list(told["history"]), str(told["status"]))
    except (files.Unreadable, KeyError, ValueError, TypeError, IndexError) as error:
        raise RequestError(f"checkpoint {path} cannot be continued ({error}); name another file") from None


def _plain(part: Any, tensors: list[Tensor]) -> Any:
    """A packed state as JSON takes it: a tensor is where it stands among the tensors."""
    if isinstance(part, Tensor):
        tensors.append(part)
        return {"tensor": len(tensors) - 1}
    return [_plain(inner, tensors) for inner in part] if isinstance(part, list) else part


def _packed(part: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(part, dict):
        return torch.from_numpy(arrays[str(part["tensor"])]).clone()  # where torch aligns: sums have the same order
    return [_packed(inner, arrays) for inner in part] if isinstance(part, list) else part


def _differs(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing in which two solves differ, in words, or ''."""
    close = CLOSE[torch.float32 if now["dtype"] == "float32" else torch.float64]
    for name, value in now.items():
        old = then.get(name)
        alike = old == value
        if isinstance(value, float) and isinstance(old, float):
            alike = math.isclose(old, value, rel_tol=close, abs_tol=close) or (math.isnan(old) and math.isnan(value))
        if not alike:
            return f"its {name} is {old}, here it is {value}"
    return ""
