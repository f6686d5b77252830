"""What a run must find as it left it, look by look: our code and torch's, settings, threads and child processes."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import autograd, derive
from bilevelbench.core.at import At
from bilevelbench.core.kept import Kept
from bilevelbench.core.meter import value_of
from bilevelbench.core.oracle import Oracle

from . import hook

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


class _Picture:
    """What names of a module or class stand for. A look at it is one call, for the audit looks at every answer."""

    def __init__(self, place: Any, names: Iterable[str]) -> None:
        self.place, self._now = place, vars(place)
        self._kept = {name: self._now[name] for name in names if name in self._now}
        self._absent = [name for name in names if name not in self._now]  # inherited
        self._values = tuple(self._kept.values())
        self._get = itemgetter(*self._kept, *list(self._kept)[:1]) if self._kept else lambda now: ()
        self._values += self._values[:1]  # of one name alone there would be no tuple

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """What gets the values, from where, and what they were."""
        return self._get, self._now, self._values

    def changed(self) -> str:
        """The first name that stands for something else, or ''."""
        try:
            if self._get(self._now) == self._values and not any(map(self._now.__contains__, self._absent)):
                return ""
        except KeyError:
            pass
        other = (name for name, value in self._kept.items() if self._now.get(name) is not value)
        return f"{self.place.__name__}.{next(other, None) or next(filter(self._now.__contains__, self._absent))}"


def _own(place: Any) -> _Picture:
    """All that a module or class has now. The code of its functions is safe: the hook refuses to have it replaced."""
    return _Picture(place, list(vars(place)))


def _untouched(parts: tuple[tuple[Any, Any, Any], ...]) -> Callable[[], bool]:
    """Whether all is as it was. It calls nothing of ours: what would be called could have been changed itself, and put
    back by its own replacement."""

    def untouched() -> bool:
        try:
            for get, now, values in parts:
                if get(now) != values:
                    return False
        except KeyError:  # a name that is gone
            return False
        return True

    return untouched


def _changed(pictures: Iterable[_Picture]) -> str:
    return next((name for picture in pictures if (name := picture.changed())), "")


class Intact:
    """A picture of code, settings, threads and child processes.

    Make it before a solver's file is imported, and let it ``settle`` after the problem was built: that may do things.
    ``untouched()``: whether the code is as it was, to be asked before anything else of ours is called.
    """

    def __init__(self) -> None:
        hook.install()
        self._ours: list[_Picture] = []
        for name, module in list(sys.modules.items()):
            if name.startswith(ROOMS) and module is not None:
                classes = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == name]
                self._ours += map(_own, (module, *classes))
        torch_s = [_Picture(place, names) for place, names in TORCH]
        self._engine = [*torch_s, *map(_own, (derive, autograd, Kept, At, *Oracle.__mro__[:-1]))]
        self._threads = _threads()
        self.untouched = _untouched(tuple(picture.parts for picture in (*self._engine, *self._ours)))
        self.settle()

    def settle(self) -> None:
        """Take settings and child processes as they are now."""
        self._settings, self._children = _settings(), _children()

    def answering(self) -> str:
        """What was changed of the code that the eager engine answers with, or ''. It takes a few microseconds."""
        return _changed(self._engine)

    def changed(self) -> str:
        """What was changed, set or left running, in words, or ''."""
        if name := _changed(self._engine) or _changed(self._ours):
            return f"changed {name}"
        for name, now in _settings().items():
            if now != self._settings[name]:
                return f"set torch's {name} to {now} (it was {self._settings[name]})"
        if _threads() > self._threads:
            return "left a thread running"
        return "left another process running" if _children() - self._children else ""


def _threads() -> int:
    """How many threads there are, or were, that nobody saw begin: up to 3.12 a solver can start such."""
    return _thread._count() - value_of(hook.begun) if hasattr(threading, "_start_new_thread") else 0


def _children() -> set[str]:
    """Where the system says it at once: Linux."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(file.read_text().split())
        except OSError:  # a thread that has just ended
            continue
    return found


def _settings() -> dict[str, Any]:
    return {
        "number of threads": torch.get_num_threads(), "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(), "inference mode": torch.is_inference_mode_enabled(),
    }  # fmt: skip
