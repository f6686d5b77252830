"""What a run must find as it left it, look by look: our code and torch's, the oracle, threads, children, settings."""

from __future__ import annotations

import _thread
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.oracle import Oracle

MOVING = ("_step", "_drawn", "check")  # what changes in an oracle
ROOMS = ("bilevelbench.core.", "bilevelbench.measure.", "bilevelbench.store.", "bilevelbench.run.")
TORCH: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (torch.autograd, ("grad", "backward", "Function")),
    (torch.func, ("grad", "vjp", "jvp", "vmap")),
    (torch, ("autograd", "no_grad", "enable_grad", "zeros_like", "isfinite", "Tensor", "func", "cuda")),
    (torch.no_grad, ("__enter__", "__exit__")),
    (torch.enable_grad, ("__enter__", "__exit__")),
    (Tensor, ("detach", "requires_grad_", "clone", "numel", "__torch_function__", "sum", "__matmul__", "__mul__")),
    (time, ("perf_counter", "process_time", "monotonic")),
    (sys, ("getprofile", "setprofile")),
)


class Strays:
    """Threads and child processes that were not there before: make one before a solver's file is imported."""

    def __init__(self) -> None:
        self._threads, self._children = _thread._count(), _children()

    def found(self) -> str:
        """What is left running, in words, or ''."""
        if _thread._count() > self._threads:
            return "left a thread running"
        if _children() - self._children:
            return "left another process running"
        return ""


def _children() -> set[str]:
    """Where the system says it at once: Linux."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(file.read_text().split())
        except OSError:  # a thread that has just ended
            continue
    return found


class Intact:
    """A picture of code and settings, taken before a solver's first line runs in a run."""

    def __init__(self, oracle: Oracle, strays: Strays | None = None) -> None:
        self._strays = strays or Strays()
        self._oracle = oracle, dict(vars(oracle))
        self._answering = [entry for place, names in TORCH for entry in _entries(place, names)]
        self._all = list(self._answering)
        for name, module in list(sys.modules.items()):
            if name.startswith(ROOMS) and module is not None:
                entries = _entries(module)
                self._all += entries
                classes = [v for *_, v in entries if isinstance(v, type) and v.__module__ == name]
                self._all += [entry for cls in classes for entry in _entries(cls)]
                if name == oracle._engine.__class__.__module__ or module is oracle._engine:
                    self._answering += entries
        self._settings = _settings()

    def answering(self) -> str:
        """What was changed of the code that answers are worked out with, or ''. It takes few microseconds."""
        return _changed(self._answering) or self._of_oracle()

    def changed(self) -> str:
        """What was changed, started or set, or ''."""
        if name := _changed(self._all):
            return f"changed {name}"
        if name := self._of_oracle():
            return f"changed {name}"
        for name, now in _settings().items():
            if now != self._settings[name]:
                return f"set torch's {name} to {now} (it was {self._settings[name]})"
        return self._strays.found()

    def _of_oracle(self) -> str:
        oracle, kept = self._oracle
        now = vars(oracle)
        other = (k for k in {**kept, **now} if k not in MOVING and now.get(k) is not kept.get(k))
        return next((f"the oracle's {k}" for k in other), "")


Entry = tuple[Any, str, Any]  # a module or class, a name in it, and what it stands for
KINDS = (types.FunctionType, type, classmethod, staticmethod, property, types.ModuleType)


def _entries(place: Any, names: tuple[str, ...] | None = None) -> list[Entry]:
    """Functions and classes of a module or class. Their code is safe: the hook refuses to have it replaced."""
    if names is None:
        return [(place, name, value) for name, value in vars(place).items() if isinstance(value, KINDS)]
    return [(place, name, _static(place, name)) for name in names]


def _static(place: Any, name: str) -> Any:
    """What a name stands for, without binding it."""
    for owner in getattr(place, "__mro__", (place,)):
        if name in vars(owner):
            return vars(owner)[name]
    return None


def _changed(entries: list[Entry]) -> str:
    for place, name, kept in entries:
        if _static(place, name) is not kept:
            return f"{place.__name__}.{name}"
    return ""


def _settings() -> dict[str, Any]:
    return {
        "number of threads": torch.get_num_threads(), "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(), "inference mode": torch.is_inference_mode_enabled(),
    }  # fmt: skip
