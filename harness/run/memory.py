"""Exact peak of live tensor bytes, on any device, in a pass of its own (it is far too slow to time under).

The process's own peak says nothing here: 300 MB of it is torch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Follows every storage that an operation makes until it is freed. ``live`` and ``peak`` are bytes."""

    def __init__(self, known: tuple[Tensor, ...] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        self._known = {id(tensor.untyped_storage()) for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage(), before)
        return result

    def _follow(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = id(storage)
        if key in self._sizes or key in before:  # a view, or an operation in place
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def peak(problem: Problem, solver: Solver, seed: int = 0, steps: int = 2) -> dict[str, int]:
    """Peak bytes of a solver's first steps: ``peak_bytes`` beyond the problem's data, ``state_bytes`` of its state.

    Everything that the solver and the derivatives make counts, the copies of x and y included; the problem's own data
    do not. Temporaries inside one torch operation are not seen.
    """
    with LiveBytes() as tracker:
        oracle = Oracle(problem, seed)
        state = start(solver, problem, oracle)
        for k in range(steps):
            oracle.begin(k)
            state = solver.step(oracle, state)
        return {"peak_bytes": tracker.peak, "state_bytes": sum(_bytes(state))}


def _bytes(state: Any) -> Iterator[int]:
    storages = {}
    for tensor in tree_leaves(state):
        if isinstance(tensor, Tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    yield from storages.values()
