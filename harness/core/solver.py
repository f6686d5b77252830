"""A solver is a frozen bag of hyper-parameters with a pure ``step(oracle, state) -> state``.

No loop, stopping rule, clock, logging, randomness or device in it. States are NamedTuples with ``x`` and ``y``; what a
step needs besides them is in further fields.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Union

from torch import Tensor

from .errors import RequestError, Unsupported
from .oracle import Oracle
from .problem import Problem
from .space import Axis
from .spec import suggest


class Point(NamedTuple):
    """The plainest state: the upper variable x, shape (n_x,), and the lower one y, shape (n_y,)."""

    x: Tensor  # (n_x,)
    y: Tensor  # (n_y,)


class State(Protocol):
    """What the harness asks of a state: a tuple of tensors and numbers in which x and y are named."""

    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    def __iter__(self) -> Iterator[Any]: ...


class Solver(Protocol):
    """What ``@solver`` makes of a class. All but ``name`` may be left out.

    family: "unrolled", "implicit", "first order", "derivative free" or "control". order: the highest order of
    derivatives it asks the oracle for. needs: what a problem must offer (see ``NEEDS``). handles: constraints that it
    knows what to do with ("h_f", "h_g"). calls: what one step asks of the oracle, such as "T dg_y, df, K-1 d2g_yy"
    (see ``contract.cost``). memory: what a step holds beyond x, y and the answer in hand, in copies of y, such as
    "1" or "T". certificate: what theory says of its limit on a quadratic (see ``contract.claims``), and
    ``certified`` the settings under which that is checked. biased: why the mean of a step over all minibatches is not
    the step with all rows; empty where it is. unverified: why it could not be checked against its paper
    or an independent implementation; empty where it was. space: grids of the knobs that are tuned, by name, beside
    those that all solvers share (``core.space``); None takes one of these out. declares: which of all these it says
    itself.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    handles: ClassVar[tuple[str, ...]]
    calls: ClassVar[str]
    memory: ClassVar[str]
    certified: ClassVar[tuple[str, ...]]
    biased: ClassVar[str]
    unverified: ClassVar[str]
    space: ClassVar[Mapping[str, Axis | None]]
    declares: ClassVar[frozenset[str]]

    @property
    def order(self) -> int: ...
    @property
    def certificate(self) -> str: ...

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State: ...
    def step(self, o: Oracle, s: Any) -> State: ...


class Stretching:
    """What an engine makes of a solver where it takes all steps of a stretch together; never a solver by itself."""

    def stretch(self, o: Oracle, s: Any, first: int, last: int) -> State:
        """The state after the steps from ``first`` up to ``last``."""
        raise NotImplementedError


# A solver may have ``figures(self, s) -> Mapping[str, float]``: what of its state a reader wants to see (a penalty, a
# multiplier), read at looks and recorded as ``state.NAME``.
NEEDS: dict[str, tuple[str, Callable[[Problem], bool]]] = {
    "minibatches": ("minibatches", lambda p: p.n_f > 1 and p.n_g > 1),
    "strongly_convex": ("a strongly convex lower level", lambda p: "strongly_convex" in p.flags),
    "unbounded": ("unbounded variables", lambda p: p.project_x is None and p.project_y is None),
}


ATTRIBUTES: dict[str, Any] = {
    "family": "", "order": 1, "needs": (), "handles": (), "calls": "", "memory": "", "certificate": "",
    "certified": (), "biased": "", "unverified": "", "space": {},
}  # fmt: skip
CONSTRAINTS = {"h_f": "constraints on the upper level", "h_g": "constraints that couple x and y on the lower level"}


def check_attributes(solver: Any) -> None:
    """What a class says of itself, in its type and in words that are known; else a ``RequestError``."""
    if issubclass(type(solver), Stretching):
        raise RequestError(
            f"the solver {solver.name!r} is made of Stretching, which is for engines; a solver has a step"
        )
    for name, default in ATTRIBUTES.items():
        vocabulary: dict[str, dict[str, Any]] = {"needs": NEEDS, "handles": CONSTRAINTS}
        value, known = getattr(solver, name), vocabulary.get(name, {})
        if type(value) is not type(default):
            words = {str: "a string", int: "1 or 2", tuple: "a tuple of strings", dict: "knobs with an Axis each"}
            such = {"calls": ", such as 'T dg_y, df_x'", "memory": ", such as 'T'"}.get(name, "")
            takes = f"{words[type(default)]}{such}"
            raise RequestError(f"the solver {solver.name!r}: {name} = {value!r} is not valid; it takes {takes}")
        for word in value if known else ():
            if word not in known:
                raise RequestError(f"the solver {solver.name!r}: {name} has {word!r}; {suggest(str(word), known)}")
    fields = [field.name for field in dataclasses.fields(solver)]
    for knob, axis in solver.space.items():
        if knob not in fields:
            raise RequestError(f"the solver {solver.name!r}: space has {knob!r}; {suggest(str(knob), fields)}")
        if axis is not None and not (isinstance(axis, Axis) and axis.start > 0 and axis.ratio >= 1):
            raise RequestError(
                f"the solver {solver.name!r}: space[{knob!r}] = {axis!r} is not valid; it takes an Axis, such as "
                "Axis(10.0), whose start is above 0 and whose ratio is 1 or more, or None"
            )


def require(solver: Solver, problem: Problem) -> None:
    """Raise ``Unsupported`` with the reason where solver and problem do not fit.

    Either the problem lacks what the solver says it ``needs``, or it has constraints that the solver does not handle.
    """
    for kind, words in CONSTRAINTS.items():
        if getattr(problem, kind) is not None and kind not in solver.handles:
            raise Unsupported(f"{solver.name} has no way with {words}")
    for need in solver.needs:
        words, met = NEEDS[need]
        if not met(problem):
            raise Unsupported(f"{solver.name} needs {words}, which this problem does not offer")


def start(solver: Solver, problem: Problem, oracle: Oracle) -> State:
    """The solver's first state, at the problem's start."""
    return solver.init(oracle, problem.x0.clone(), problem.y0.clone())


def stretch(solver: Solver, oracle: Oracle, state: State, first: int, last: int) -> State:
    """The state after the steps from ``first`` up to ``last``. Whoever times steps times this, and nothing else."""
    if isinstance(solver, Stretching):
        return solver.stretch(oracle, state, first, last)
    for k in range(first, last):
        oracle.begin(k)
        state = solver.step(oracle, oracle._renewed(state))
    return state


def check_knob(owner: str, name: str, kind: Any, value: Any) -> Any:
    """The value in the knob's type, or a ``RequestError`` that names the knob, the value and what is valid.

    Numbers are finite. An int is accepted for a float; True is no number.
    """
    if _fits(kind, value):
        if isinstance(value, (tuple, list)):
            return tuple(check_knob(owner, name, typing.get_args(kind)[0], item) for item in value)
        members = (kind, *typing.get_args(kind))  # in float | None, too, 1 and 1.0 are one value
        return float(value) if type(value) is int and float in members and int not in members else value
    raise RequestError(f"{owner}: {name}={value!r} is not valid; {name} takes {_words(kind)}")


def _fits(kind: Any, value: Any) -> bool:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(arg, value) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin in (tuple, list, typing.get_origin(typing.Sequence[int])):
        return isinstance(value, (tuple, list)) and all(_fits(args[0], item) for item in value)
    if kind is None or kind is types.NoneType:
        return value is None
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind is int:
        return type(value) is int
    return type(value) is kind


def _words(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin in (tuple, list, typing.get_origin(typing.Sequence[int])):
        return f"a list, each item {_words(args[0])}"
    words = {float: "a finite number", int: "a whole number", bool: "True or False", str: "a string"}
    return words.get(kind, "None" if kind in (None, types.NoneType) else str(kind))


def check_fields(solver: Any) -> None:
    """Every field in its type; numbers are not negative and whole numbers at least 1, unless ``at_least`` says else."""
    hints = typing.get_type_hints(type(solver))
    at_least = getattr(type(solver), "at_least", {})
    for name in (field.name for field in dataclasses.fields(solver)):
        value = check_knob(solver.name, name, hints[name], getattr(solver, name))
        object.__setattr__(solver, name, value)
        if type(value) in (int, float):
            low = at_least.get(name, 1 if type(value) is int else 0)
            if value < low:
                raise RequestError(f"{solver.name}: {name}={value!r} is not valid; {name} is at least {low}")
