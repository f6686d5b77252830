"""What solvers and problems declare is looked at when they are registered; what is wrong is a sentence with a place."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import RequestError
from .solver import ATTRIBUTES

KNOWN = {*ATTRIBUTES, "at_least", "name", "declares"}
NOTHING = inspect.Parameter("rng", inspect.Parameter.KEYWORD_ONLY)
WAYS = {"step": ("self", "o", "s"), "init": ("self", "o", "x", "y")}


def file_of(cls: type) -> Path:
    """The file that a class is in; what a notebook calls its cell where it is in none."""
    try:
        return Path(inspect.getfile(cls)).resolve()
    except (OSError, TypeError):
        return Path(inspect.getfile(cls.step)).resolve()  # type: ignore[attr-defined]


def check_solver(name: str, cls: type) -> None:
    """Refuse a class whose methods cannot be called as the harness does, or with a knob that has no type or no value.

    Its annotations become types: where the class is rebuilt, the names that they use may not be at hand.
    """
    if not callable(getattr(cls, "step", None)):
        raise RequestError(f"the solver {name!r} has no step(self, o, s)")
    for method, parameters in WAYS.items():
        if hasattr(cls, method):
            _check_way(f"the solver {name!r}", getattr(cls, method), method, parameters)
    try:
        types = inspect.get_annotations(cls, eval_str=True)
    except Exception as error:
        raise RequestError(f"the solver {name!r}: the type of a knob cannot be read: {error}") from None
    cls.__annotations__ = types
    for knob, value in vars(cls).items():
        known = knob in types or knob in KNOWN or knob.startswith("_")
        if not known and _is_value(value) and not _replaces_a_method(cls, knob):
            raise RequestError(
                f"the solver {name!r}: the knob {knob} has no type; "
                f"write {knob}: {type(value).__name__} = {value!r:.40}"
            )
    for knob, kind in types.items():
        value = vars(cls).get(knob, dataclasses.MISSING)
        if isinstance(value, dataclasses.Field):
            value = value.default
        if value is dataclasses.MISSING and not _is_constant(kind):
            raise RequestError(f"the solver {name!r}: the field {knob} needs a default value")


def check_problem(name: str, build: Callable[..., Any]) -> None:
    """Refuse a function without a first argument for the ``Draw``, or with a knob that has no type or no value.

    Its annotations become types, as those of a class.
    """
    place = _place(build)
    rng, *knobs = [*inspect.signature(build).parameters.values()] or [NOTHING]
    if rng.kind not in (rng.POSITIONAL_ONLY, rng.POSITIONAL_OR_KEYWORD):
        raise RequestError(f"{place}the problem {name!r} takes no Draw; write {name}(rng: Draw, ...)")
    for knob in knobs:
        if knob.kind in (knob.VAR_POSITIONAL, knob.VAR_KEYWORD):
            raise RequestError(f"{place}the problem {name!r} takes {knob}; name each knob, with its type and a value")
        if knob.default is knob.empty:
            raise RequestError(f"{place}the problem {name!r}: the knob {knob.name} needs a default value")
        if knob.annotation is knob.empty:
            kind = type(knob.default).__name__
            raise RequestError(
                f"{place}the problem {name!r}: the knob {knob.name} has no type; "
                f"write {knob.name}: {kind} = {knob.default!r:.40}"
            )
    try:
        build.__annotations__ = typing.get_type_hints(build)
    except Exception as error:
        raise RequestError(f"{place}the problem {name!r}: the type of an argument cannot be read: {error}") from None


def said(cls: type) -> frozenset[str]:
    """The attributes that a class says something of, itself or by those it is made from; defaults are not said."""
    said = (vars(base).get("declares", frozenset(vars(base))) for base in cls.__mro__)
    return frozenset(ATTRIBUTES) & frozenset().union(*said)


def _check_way(owner: str, function: Any, method: str, parameters: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not say
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        raise RequestError(
            f"{_place(function)}{method}{signature} of {owner} cannot be called as {method}({', '.join(parameters)})"
        ) from None


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}: " if code else ""


def _replaces_a_method(cls: type, name: str) -> bool:
    """Whether a base has something of this name that is no knob."""
    bases = [base for base in cls.__mro__[1:] if name in vars(base)]
    return bool(bases) and not any(name in inspect.get_annotations(base) for base in bases)


def _is_constant(kind: Any) -> bool:
    return kind is typing.ClassVar or typing.get_origin(kind) is typing.ClassVar


def _is_value(value: Any) -> bool:
    methods = (property, staticmethod, classmethod, functools.cached_property)
    return not callable(value) and not isinstance(value, methods) and not inspect.ismemberdescriptor(value)
