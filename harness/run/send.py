"""From what somebody asks for to the text that names it; objects go to the processes of their runs as definitions.

What comes with the package, or with an installed one that registers by entry points, is found there by its name.
Anything else, be it made in a notebook, in ``__main__`` or in a module that is no plug-in, is pickled by cloudpickle:
what is in ``__main__`` by value, with all that it uses, and the rest as a module that the process imports.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import os
import pickle
import secrets
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from bilevelbench.core import declared
from bilevelbench.core.definition import fixed
from bilevelbench.core.errors import RequestError
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS, Entry, Registry
from bilevelbench.core.spec import DEFINITION, Spec, parse

from .fingerprint import digest_of
from .job import Sent


class Sender:
    """Keeps definitions in a folder, until it is left. ``sent``: their (kind, name, path), for ``names.receive``.

    here: the runs are made in this process, so the objects themselves are registered for that time, and not pickled.
    """

    def __init__(self, here: bool = False) -> None:
        self._here, self._sent = here, dict[tuple[str, str], Path]()

    def __enter__(self) -> Sender:
        self._folder = tempfile.TemporaryDirectory(prefix="bilevelbench-")
        self._before = {registry.kind: dict(registry.entries) for registry in (SOLVERS, PROBLEMS)}
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
        for kind, name in self._sent if self._here else ():
            entries, before = (SOLVERS if kind == "solver" else PROBLEMS).entries, self._before[kind]
            entries.pop(name, None)
            entries |= {name: before[name]} if name in before else {}

    @property
    def sent(self) -> Sent:
        """What has been put there."""
        return tuple((kind, name, str(path)) for (kind, name), path in self._sent.items())

    def solver(self, given: Any) -> str:
        """The text for a solver: a text, an object of a class that ``@solver`` registered, or the class."""
        if isinstance(given, str):
            return self._text(SOLVERS, given)
        cls = given if isinstance(given, type) else type(given)
        if not hasattr(cls, "declares") or not dataclasses.is_dataclass(cls):
            raise RequestError(
                f"solvers={_short(given)} is not valid; it takes texts such as 'bome(lr=0.01)' and objects of classes "
                "under @bilevelbench.solver('name')"
            )
        name: str = cls.name  # type: ignore[attr-defined]
        knobs = {field.name: (field.default, getattr(given, field.name)) for field in dataclasses.fields(cls)}
        asked = {knob: value for knob, (default, value) in knobs.items() if value != default}
        entry = Entry(name, cls, inspect.getdoc(cls) or "", declared.file_of(cls))
        return self._named(SOLVERS, entry, {} if isinstance(given, type) else asked)

    def problem(self, given: Any, name: str = "") -> str:
        """The text for a problem: a text, a function that builds it, partial or not, or a ``Problem``."""
        if isinstance(given, str):
            if name:
                raise RequestError(f"problems: {given!r} has a name; a dictionary gives names to functions and objects")
            return self._text(PROBLEMS, given)
        knobs: dict[str, Any] = {}
        if isinstance(given, functools.partial) and not given.args:
            given, knobs = given.func, given.keywords
        if isinstance(given, Problem):
            _check_built(given)
            given, name = dataclasses.replace(given, seeded=False), name or "problem"
            self._send(PROBLEMS, Entry(name, fixed(given), "", Path()), given)
            return name
        if not isinstance(given, types.FunctionType):
            raise RequestError(
                f"problems={_short(given)} is not valid; it takes texts such as 'quadratic(kappa=100)', functions that "
                "take a Draw and answer a Problem, and objects of Problem"
            )
        known = next((entry for entry in PROBLEMS.entries.values() if entry.make is given), None)
        entry = known or Entry(given.__name__, given, inspect.getdoc(given) or "", Path())
        entry = dataclasses.replace(entry, name=name or entry.name)
        if not entry.name.isidentifier():
            raise RequestError("problems: a lambda has no name; write {'name': lambda rng: ...}")
        if known is None:
            declared.check_problem(entry.name, given)
        return self._named(PROBLEMS, entry, knobs)

    def _named(self, registry: Registry, entry: Entry, knobs: dict[str, Any]) -> str:
        """The text for an entry with some of its knobs."""
        if _by_file(entry):
            return str(Spec(entry.name, knobs, str(entry.file)))
        self._send(registry, entry)
        return str(Spec(entry.name, knobs))

    def _text(self, registry: Registry, text: str) -> str:
        """A text that may name what was registered in this process alone."""
        spec = parse(text)
        entry = registry.entries.get(spec.name)
        if entry is not None and not spec.file and not _by_file(entry):
            self._send(registry, entry)
        return text

    def _send(self, registry: Registry, entry: Entry, built: Problem | None = None) -> None:
        kind, made = registry.kind, entry.make if built is None else built
        registry.load_own()
        if built is None and _by_name(registry, entry):
            return
        known = registry.entries.get(entry.name)
        if known is not None and _by_name(registry, known):
            raise RequestError(f"{kind}s: the name {entry.name!r} is taken, in {known.file}; choose another")
        path = Path(self._folder.name).resolve() / f"{entry.name}.{self._digest(made)}{DEFINITION}"
        if self._sent.setdefault((kind, entry.name), path) != path:
            remedy = "{'name': problem, ...}" if kind == "problem" else "@solver('name')"
            raise RequestError(f"{kind}s: two of them are called {entry.name!r}; give each a name of its own: {remedy}")
        if self._here:
            registry.entries[entry.name] = dataclasses.replace(entry, file=path)
        elif not path.exists():
            path.write_bytes(pickle.dumps(_told(registry, entry) | {"made": _pickled(entry.name, made)}))

    def _digest(self, made: Any) -> str:
        """What cannot be pickled can still be run here; no two runs of it are the same."""
        try:
            return digest_of(made)
        except Exception:
            return secrets.token_hex(8)


def _told(registry: Registry, entry: Entry) -> dict[str, Any]:
    return {
        "kind": registry.kind, "name": entry.name, "doc": entry.doc, "version": entry.version, "shows": entry.shows,
        "family": entry.family, "path": [os.path.abspath(folder) for folder in sys.path],
    }  # fmt: skip


def _pickled(name: str, made: Any) -> bytes:
    try:
        return bytes(cloudpickle.dumps(made))
    except Exception as error:
        raise RequestError(
            f"{name} cannot be sent to a process of its own ({type(error).__name__}: {error}); put it into a file and "
            "name that, or run with in_process=True"
        ) from None


def _by_file(entry: Entry) -> bool:
    """A loose file's own: it is named by its file."""
    return entry.make.__module__.startswith("bilevelbench_loose_")


def _by_name(registry: Registry, entry: Entry) -> bool:
    """Whether another process finds it by its name: it comes with us, or in a module that an entry point names."""
    known = registry.entries.get(entry.name)
    points = importlib.metadata.entry_points(group=f"bilevelbench.{registry.kind}s")
    places = ("bilevelbench.", *(f"{point.module}." for point in points))
    return f"{entry.make.__module__}.".startswith(places) and known is not None and known.make is entry.make


def _check_built(made: Problem) -> None:
    for name, start in (("x0", made.x0), ("y0", made.y0)):
        if start.dtype != torch.float64 or start.device.type != "cpu":
            raise RequestError(
                f"problems: the {name} of a Problem is {start.dtype} on {start.device}; "
                "build it in float64 on the CPU, or give the function that builds it"
            )


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
