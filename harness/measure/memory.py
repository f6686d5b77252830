"""Exact peak of live tensor bytes, on any device, in a pass of its own (it is far too slow to time under).

The process's own peak says little here: 300 MB of it is torch.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bilevelbench.core.door import WORTH
from bilevelbench.core.meter import Meter, metered
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start, stretch


def without_dynamo(mode: Any) -> Any:
    """A class decorator: torch wraps the method of a mode so that its first call imports torch's compiler, 5 seconds
    and 600 MB of process for what is no use here."""
    mode.__torch_dispatch__ = getattr(mode.__torch_dispatch__, "__wrapped__", mode.__torch_dispatch__)
    return mode


@without_dynamo
class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Follows every storage that an operation makes until it is freed. All numbers are bytes.

    live, peak: of everything. inside_peak: of what is made and dropped while ``inside`` is set. own_peak: of the rest;
    what is made inside and kept joins the rest when ``leave`` is called.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.live = self.peak = self.inside_peak = self.own_peak = 0
        self.inside = False
        self._sizes: dict[int, int] = {}
        self._made_inside: set[int] = set()
        self._inside_live = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage(), before)
        return result

    def leave(self) -> None:
        """An answer is given: what is left of its making is the asker's now."""
        self.inside = False
        self._made_inside.clear()
        self._inside_live = 0
        self.own_peak = max(self.own_peak, self.live)

    def _follow(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = id(storage)
        if key in self._sizes or key in before:  # a view, or an operation in place
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        if self.inside:
            self._made_inside.add(key)
            self._inside_live += storage.nbytes()
            self.inside_peak = max(self.inside_peak, self._inside_live)
        else:
            self.own_peak = max(self.own_peak, self.live)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        size = self._sizes.pop(key, 0)
        self.live -= size
        if key in self._made_inside:
            self._made_inside.discard(key)
            self._inside_live -= size


class _Followed(Oracle):
    """An oracle that tells the tracker when an answer is being worked out."""

    def __init__(self, problem: Problem, seed: int, tracker: LiveBytes) -> None:
        super().__init__(problem, seed)
        self._tracker = tracker

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in WORTH:
            return method
        tracker: LiveBytes = super().__getattribute__("_tracker")

        def answered(*arguments: Any, **named: Any) -> Any:
            if tracker.inside:  # a question that the oracle asks itself
                return method(*arguments, **named)
            tracker.inside = True
            try:
                return method(*arguments, **named)
            finally:
                tracker.leave()

        return answered


STEPS = 8  # of a run, after which its memory is looked at
SETTLED = 2  # steps after which an honest solver holds what it holds
PATIENCE = 5.0  # CPU seconds beyond which no further step is begun


def peak(problem: Problem, solver: Solver, seed: int = 0, steps: int = STEPS) -> dict[str, int]:
    """Peak bytes of a solver's first steps, and how fast they grow.

    peak_bytes: of everything that the solver and the derivatives make, the copies of x and y included; the problem's
    own data are not in it. solver_bytes: of what the solver itself holds, answers of the oracle and graphs kept at
    points included. problem_bytes: of what the problem needs to work out one answer (graph, activations). The two peaks
    need not come at the same moment: peak_bytes is at most their sum. state_bytes: of the state after the last step.
    growth_bytes: of what is held after a step, more from step to step since the second: 0 for all who keep no history,
    wherever they keep it. cuda_bytes: the allocator's own peak, where the problem is on such a device. Temporaries
    inside one torch operation are seen by the last one only.
    """
    device = problem.x0.device
    allocated = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
    begin = time.process_time()
    with LiveBytes() as tracker:
        oracle = _Followed(metered(problem, Meter()), seed, tracker)
        state = start(solver, problem, oracle)
        live: list[int] = []
        while len(live) < steps and (len(live) <= SETTLED or time.process_time() - begin < PATIENCE):
            state = stretch(solver, oracle, state, len(live), len(live) + 1)
            live.append(tracker.live)
        since = live[SETTLED - 1 :]
        found = {
            "peak_bytes": tracker.peak, "solver_bytes": tracker.own_peak, "problem_bytes": tracker.inside_peak,
            "state_bytes": sum(_bytes(state)), "growth_bytes": (since[-1] - since[0]) // max(1, len(since) - 1),
        }  # fmt: skip
    if device.type == "cuda":
        found["cuda_bytes"] = torch.cuda.max_memory_allocated(device) - allocated
    return found


def _bytes(state: Any) -> Iterator[int]:
    storages = {}
    for tensor in tree_leaves(state):
        if isinstance(tensor, Tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    yield from storages.values()


class ProcessPeak:
    """The process's peak of resident memory since ``reset``, in bytes: torch itself and all.

    Linux keeps it, and lets it be reset; elsewhere, and where resetting is forbidden, there is none.
    """

    def __init__(self) -> None:
        self._known = self._reset()

    def _reset(self) -> bool:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def read(self) -> dict[str, int]:
        """``{"process_bytes": ...}``, or nothing."""
        if self._known:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return {"process_bytes": int(line.split()[1]) * 1024}
        return {}
