"""From a text to what it names: its entry, its knobs spelled out, the solver or the problem itself."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .draw import Draw
from .errors import RequestError, Unsupported
from .problem import Problem
from .registry import PROBLEMS, SOLVERS, Entry, Registry
from .solver import Solver, check_knob
from .spec import Spec, parse, suggest


def knobs(entry: Entry) -> dict[str, tuple[Any, Any]]:
    """The knobs of a solver or a problem with their (type, default)."""
    target = entry.make
    hints = typing.get_type_hints(target)
    parameters = list(inspect.signature(target).parameters.values())
    if not inspect.isclass(target):
        parameters = parameters[1:]  # rng
    return {p.name: (hints.get(p.name, Any), p.default) for p in parameters}


def _arguments(registry: Registry, spec: Spec, entry: Entry) -> dict[str, Any]:
    known = knobs(entry)
    for knob in spec.arguments:
        if knob not in known:
            raise RequestError(f"{registry.kind} {entry.name} has no knob {knob!r}; {suggest(knob, known)}")
    given = {k: check_knob(entry.name, k, known[k][0], v) for k, v in spec.arguments.items()}
    return {k: given.get(k, default) for k, (_, default) in known.items()}


def resolve(registry: Registry, text: str) -> tuple[Entry, Spec]:
    """The entry that a text names, and the spec with every knob spelled out: equal specs are equal things."""
    spec = parse(text)
    entry = registry.entry(spec)
    full = Spec(entry.name, _arguments(registry, spec, entry), str(entry.file) if spec.file else "")
    if registry is SOLVERS:
        entry.make(**full.arguments)  # refuses impossible values
    return entry, full


def make_solver(text: str) -> Solver:
    """The solver that a text such as ``"bome(lr=0.05)"`` names: a name, or a file with a solver in it, and its knobs.

    RequestError where ``text`` cannot be read, or names no solver, no knob, or a value that the knob does not take.
    """
    entry, spec = resolve(SOLVERS, text)
    made: Solver = entry.make(**spec.arguments)
    return made


def build_problem(text: str, rng: Draw) -> Problem:
    """The problem that a text such as ``"quadratic(kappa=10)"`` names, on the device and in the dtype of ``rng``.

    The seed of ``rng`` makes data, split, noise and start. RequestError where ``text`` cannot be read, or names no
    problem, no knob, or a value that the knob does not take; Unsupported where its data cannot be had.
    """
    entry, spec = resolve(PROBLEMS, text)
    return built(entry.make, spec.arguments, rng, str(spec))


def built(make: Callable[..., Any], knobs: Mapping[str, Any], rng: Draw, name: str) -> Problem:
    """The problem that a function builds, on the device and in the dtype of ``rng``. ``name`` is for errors."""
    try:
        made: Problem = make(rng, **knobs)
    except (RequestError, Unsupported):
        raise
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name}: {error}") from error
    if not isinstance(made, Problem):
        raise RequestError(f"{name}: the function answers {made!r:.60}, not a Problem; does it lack its return?")
    start = {k: getattr(made, k).to(rng.device, rng.dtype) for k in ("x0", "y0")}
    return dataclasses.replace(made, **start)
