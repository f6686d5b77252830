"""Watches Python and torch while no answer is being given: nobody else runs the problem's code or reads its data."""

from __future__ import annotations

import _posixsubprocess
import _thread
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bilevelbench.core.meter import METERED, plainest
from bilevelbench.core.problem import Problem

from .hook import HOME
from .memory import without_dynamo

Codes = dict[Any, str]  # the problem's own code, with the name of the function it belongs to

FORBIDDEN: dict[Any, str] = {
    sys.getprofile: "it looks for the harness's profile", sys.gettrace: "it looks for the harness's trace",
    signal.signal: "it sets a signal handler", signal.setitimer: "it sets a timer",
    _thread.start_new_thread: "it starts a thread", _posixsubprocess.fork_exec: "it starts another process",
}  # fmt: skip
DEEPEST = 6  # of what a function's closure holds


def watched_problem(problem: Problem, entered: count[int]) -> tuple[Problem, Codes]:
    """The problem with functions that count in ``entered`` when they are, and their code."""
    codes: Codes = {_shell(min, entered).__code__: "function"}
    made: dict[str, Any] = {}
    for name in METERED:
        if (fn := getattr(problem, name)) is not None:
            made[name] = _shell(fn, entered)
            if plain := plainest(fn):
                codes[plain.__code__] = name
    return dataclasses.replace(problem, **made), codes


def _shell(fn: Callable[..., Any], entered: count[int]) -> Any:
    def shell(*points: Any) -> Any:
        next(entered)
        return fn(*points)

    return shell


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Tells a watcher of each operation."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._watcher = watcher

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        watcher = self._watcher
        if not watcher.open and any(watcher.is_data(tensor) for tensor in _among(args)):
            watcher.note(f"it computes with the problem's own data ({func}) past the oracle")
        return func(*args, **(kwargs or {}))


without_dynamo(_Mode)


class Watcher:
    """A context in which a solver is at work. ``open``: an answer is being given, and all is allowed.

    found: the first thing that was not right, in words, or ''.
    """

    def __init__(self, problem: Problem, codes: Codes, data: Sequence[Tensor], solver_file: str) -> None:
        self.open, self.found = False, ""
        self._codes = codes
        files = {code.co_filename for code in codes}
        self._files = {f for f in files if f != solver_file and not f.startswith((HOME, "<")) and "torch" not in f}
        starts = {_place(problem.x0), _place(problem.y0)}
        self._held = [*data, *(t for name in METERED for t in _closed_over(getattr(problem, name), 0, set()))]
        self._data = {place for tensor in self._held if (place := _place(tensor)) not in {0, *starts}}
        self._mode = _Mode(self)

    def note(self, words: str) -> None:
        """Keep the first thing found."""
        self.found = self.found or words

    def is_data(self, value: Any) -> bool:
        """Whether a value is a tensor in the problem's own memory."""
        return type(value) is Tensor and _place(value) in self._data

    def own(self, answer: Any) -> Any:
        """An answer as a solver may have it: no part of a graph, nor of the problem's data."""
        if isinstance(answer, tuple):
            return tuple(self.own(part) for part in answer)
        if isinstance(answer, Tensor):
            if answer.requires_grad:
                self.note("an answer of the oracle carries a graph: it can be differentiated past the oracle")
            return answer.clone() if self.is_data(answer) else answer
        return answer

    def __enter__(self) -> None:
        self._mode.__enter__()  # type: ignore[no-untyped-call, unused-ignore]
        sys.setprofile(self._profile)

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        self._mode.__exit__(*error)  # type: ignore[no-untyped-call, unused-ignore]
        self.open = False

    def _profile(self, frame: Any, event: str, argument: Any) -> None:
        if self.open:
            return
        if event == "call":
            code = frame.f_code
            if code in self._codes:
                self.note(f"the problem's own {self._codes[code]} is asked past the oracle")
            elif code.co_filename in self._files:
                self.note(f"code of the problem's file ({code.co_name}) runs past the oracle")
        elif event == "c_call":
            owner = getattr(argument, "__self__", None)
            if type(owner) is Tensor:
                if self.is_data(owner):
                    self.note(f"it reads the problem's own data ({argument.__name__}) past the oracle")
            elif argument.__hash__ and argument in FORBIDDEN:
                self.note(FORBIDDEN[argument])


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _among(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _among(value)
        else:
            yield value


def _closed_over(value: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    """The tensors that a function reads besides its arguments: in its closure, and in what that holds."""
    if depth > DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, torch.nn.Module):
        yield from (*value.parameters(), *value.buffers())
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif plain := (plainest(value) if callable(value) and not isinstance(value, type) else None):
        parts = [cell.cell_contents for cell in plain.__closure__ or ()] + [*(plain.__defaults__ or ())]
        parts += [
            getattr(value, "__self__", None),
            *getattr(value, "args", ()),
            *getattr(value, "keywords", {}).values(),
        ]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for part in parts:
        yield from _closed_over(part, depth + 1, seen)
