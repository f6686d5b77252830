"""What a run must find as it left it, look by look: our code and torch's, settings, threads and child processes."""

from __future__ import annotations

import _thread
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.oracle import Oracle

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


class Intact:
    """A picture of code, settings, threads and child processes. Make it before a solver's file is imported."""

    def __init__(self) -> None:
        self._torch = [entry for place, names in TORCH for entry in _entries(place, names)]
        self._ours: list[Entry] = []
        for name, module in list(sys.modules.items()):
            if name.startswith(ROOMS) and module is not None:
                entries = _entries(module)
                classes = [v for *_, v in entries if isinstance(v, type) and v.__module__ == name]
                self._ours += [*entries, *(entry for cls in classes for entry in _entries(cls))]
        self._engine = [*self._torch, *_entries(derive), *_entries(Oracle)]
        self._settings, self._threads, self._children = _settings(), _thread._count(), _children()

    def answering(self) -> str:
        """What was changed of the code that the eager engine answers with, or ''. It takes a few microseconds."""
        return _changed(self._engine)

    def changed(self) -> str:
        """What was changed, set or left running, in words, or ''."""
        if name := _changed(self._torch) or _changed(self._ours):
            return f"changed {name}"
        for name, now in _settings().items():
            if now != self._settings[name]:
                return f"set torch's {name} to {now} (it was {self._settings[name]})"
        if _thread._count() > self._threads:
            return "left a thread running"
        return "left another process running" if _children() - self._children else ""


def _children() -> set[str]:
    """Where the system says it at once: Linux."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(file.read_text().split())
        except OSError:  # a thread that has just ended
            continue
    return found


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
