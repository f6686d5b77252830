"""States that a run passes through, kept so that a stretch of it can be made again and compared (``measure.audit``).

Within each stretch between two looks a window is drawn that the solver cannot foresee: an eighth of the stretch. The
loop keeps references to the state at either end, with the counts there; they are written after the stretch, outside the
clock.
"""

from __future__ import annotations

import numbers
import secrets
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.meter import Counts, Key, less, parsed
from bilevelbench.core.solver import Point, Solver

from .failure import Foul, Full

SHARE = 8
LONGEST = 100  # steps of a window
MOST = 512 << 20  # bytes of a run's states; what comes later is left out

Shot = dict[Key, str]


class Marks:
    """Writes windows into a folder of the run's own, a file for each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._room = folder, MOST

    def within(self, first: int, last: int) -> tuple[int, int]:
        """The window (from, to) of the stretch of steps from ``first`` to ``last``."""
        length = max(1, min(LONGEST, (last - first) // SHARE))
        begin = first + secrets.randbelow(last - first - length + 1)
        return begin, begin + length

    def write(self, begin: int, end: int, before: Any, after: Any, counts: tuple[Shot, Shot]) -> None:
        """Write a window: the states at both ends, and the ``shot`` of the counts there."""
        if not self._room:
            return
        packed = pack(before), pack(after)
        size = sum(tensor.nbytes for part in packed for tensor in tensors(part))
        if size > self._room:
            self._room = 0
            return
        self._room -= size
        counted = less(parsed(counts[1]), parsed(counts[0]))
        path = self._folder / f"{begin}-{end}.pt"
        try:
            torch.save((*packed, counted), path)
        except (OSError, RuntimeError) as error:  # it does not say which: nothing else can be wrong with numbers
            raise Full(str(path)) from error


def read(folder: Path, window: tuple[int, int]) -> tuple[Any, Any, Counts]:
    """(the state before, packed; the state after, packed; the counts between)."""
    before, after, counts = torch.load(folder / f"{window[0]}-{window[1]}.pt", weights_only=True)
    return before, after, counts


def pack(part: Any) -> Any:
    """A state as lists, numbers and tensors. ``Foul`` where it holds anything else: that could not be made again."""
    if type(part) is Tensor:
        if part.requires_grad:
            raise Foul("its state holds a tensor that carries a graph; a step returns detached tensors")
        tensor = part.detach().cpu()
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    if part is None or type(part) in (bool, str):
        return part
    if isinstance(part, numbers.Real):
        return int(part) if isinstance(part, numbers.Integral) else float(part)
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return ["named", type(part).__qualname__, *map(pack, part)]
    if type(part) in (list, tuple):
        return [type(part).__name__, "", *map(pack, part)]
    if type(part) is dict and all(type(key) is str for key in part):
        return ["dict", list(part), *map(pack, part.values())]
    raise Foul(f"its state holds a {type(part).__name__}; it may hold tensors and numbers, in tuples, lists and dicts")


def unpack(packed: Any, kinds: dict[str, type], device: torch.device) -> Any:
    """The state again. ``kinds``: the NamedTuples by qualified name."""
    if isinstance(packed, Tensor):
        return packed.to(device)
    if not isinstance(packed, list):
        return packed
    kind, name, *parts = packed
    made = [unpack(part, kinds, device) for part in parts]
    if kind == "dict":
        return dict(zip(name, made, strict=True))
    return kinds[name](*made) if kind == "named" else made if kind == "list" else tuple(made)


def tensors(packed: Any) -> list[Tensor]:
    """The tensors of a packed state, in order."""
    if isinstance(packed, Tensor):
        return [packed]
    return [tensor for part in packed for tensor in tensors(part)] if isinstance(packed, list) else []


def kinds(solver: Solver) -> dict[str, type]:
    """The NamedTuples that a solver's modules know, by qualified name."""
    found: dict[str, type] = {"Point": Point}
    for cls in type(solver).__mro__:
        module = sys.modules.get(cls.__module__, types.ModuleType(""))
        found |= {v.__qualname__: v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "_fields")}
    return found


def collect(state: Any, known: dict[str, type]) -> None:
    """Add the NamedTuples that a state is made of."""
    if hasattr(state, "_fields"):
        known[type(state).__qualname__] = type(state)
    if isinstance(state, tuple | list | dict):
        for part in state.values() if isinstance(state, dict) else state:
            collect(part, known)
