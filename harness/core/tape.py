"""What a step meets besides tensors while it is recorded: the numbers of its state, and random numbers.

A graph of tensor operations is recorded once and run at every step. A number such as the step count would be frozen
into it, and so would a minibatch. Here they are followed instead: where a number meets a tensor it becomes an input of
the graph, and where Python decides by it the decision becomes a condition under which the graph stands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .batches import generator
from .errors import Unsupported
from .oracle import Oracle
from .problem import Problem

Host = tuple[Sequence[Any], Sequence[int]]  # a step's numbers: those of the state, and the whole numbers drawn
Recipe = Callable[[Host], Any]


@dataclass(frozen=True)
class Fixed:
    """The recipe of a number that is the same at every step."""

    value: Any

    def __call__(self, host: Host) -> Any:
        return self.value


@dataclass(frozen=True)
class Shifted:
    """The recipe of a number of the state, or of a whole one to which a whole number was added: a count of steps."""

    place: int
    by: int = 0

    def __call__(self, host: Host) -> Any:
        return host[0][self.place] + self.by if self.by else host[0][self.place]


class Drawn(NamedTuple):
    """A random tensor that a step asks of its oracle, to be asked again at every step."""

    method: str
    arguments: tuple[Any, ...]


class Tape:
    """One recording. ``given`` are the inputs to hand out, in order; without it they are made and kept in ``seen``."""

    def __init__(self, like: Tensor, given: Sequence[Tensor] | None = None) -> None:
        self.like = like
        self.feeds: list[Recipe | Drawn] = []  # how each further input of the graph is made
        self.seen: list[Tensor] = []
        self.guards: list[tuple[Recipe, Any]] = []  # decisions that Python took, with their outcomes
        self.integers: list[int] = []  # upper ends of the whole numbers drawn
        self._given = given

    def feed(self, how: Recipe | Drawn, made: Callable[[], Tensor]) -> Tensor:
        """The next further input."""
        self.feeds.append(how)
        if self._given is not None:
            return self._given[len(self.feeds) - 1]
        self.seen.append(made())
        return self.seen[-1]

    def guard(self, recipe: Recipe, outcome: Any) -> Any:
        """Python goes on with this outcome: the recording stands where it is the same."""
        self.guards.append((recipe, outcome))
        return outcome


class Number:
    """A number of the state, or what became of one: its value, and the recipe that gives it from a step's numbers."""

    def __init__(self, tape: Tape, value: Any, recipe: Recipe) -> None:
        self.tape, self.value, self.recipe = tape, value, recipe

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_as_tensor, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __bool__(self) -> bool:
        recipe = self.recipe
        return bool(self.tape.guard(lambda host: bool(recipe(host)), bool(self.value)))

    def __index__(self) -> int:
        return int(self.tape.guard(self.recipe, self.value))

    def __int__(self) -> int:
        recipe = self.recipe
        return int(self.tape.guard(lambda host: int(recipe(host)), int(self.value)))

    def __float__(self) -> float:
        raise Unsupported("a step takes the Python float of a number in its state, which would be frozen into a graph")

    def __neg__(self) -> Number:
        recipe = self.recipe
        return Number(self.tape, -self.value, lambda host: -recipe(host))

    def __hash__(self) -> int:
        return hash(self.tape.guard(self.recipe, self.value))


def _as_tensor(leaf: Any) -> Any:
    if not isinstance(leaf, Number):
        return leaf
    like = leaf.tape.like  # of the run's dtype, so that nothing is promoted
    return leaf.tape.feed(leaf.recipe, lambda: torch.tensor(leaf.value, dtype=like.dtype, device=like.device))


def _value(host: Host, operand: Any) -> Any:
    return operand(host) if callable(operand) else operand


SIGN = {operator.add: 1, operator.sub: -1}


def _follow(operation: Callable[[Any, Any], Any], decides: bool, swapped: bool) -> Callable[[Number, Any], Any]:
    sign = 0 if swapped and operation is operator.sub else SIGN.get(operation, 0)

    def method(self: Number, other: Any) -> Any:
        if isinstance(other, Tensor):
            return NotImplemented  # the tensor's own method asks __torch_function__
        if sign and isinstance(self.recipe, Shifted) and type(other) is type(self.value) is int:
            count = self.recipe
            return Number(self.tape, self.value + sign * other, Shifted(count.place, count.by + sign * other))
        one, two = self.recipe, other.recipe if isinstance(other, Number) else other
        plain = other.value if isinstance(other, Number) else other

        def recipe(host: Host) -> Any:
            a, b = one(host), _value(host, two)
            return operation(b, a) if swapped else operation(a, b)

        value = operation(plain, self.value) if swapped else operation(self.value, plain)
        return self.tape.guard(recipe, value) if decides else Number(self.tape, value, recipe)

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Number, f"__{_name}__", _follow(getattr(operator, _name), False, False))
    setattr(Number, f"__r{_name}__", _follow(getattr(operator, _name), False, True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", _follow(getattr(operator, _name), True, False))


class TapedOracle(Oracle):
    """An oracle whose random answers go over the tape."""

    def __init__(self, problem: Problem, seed: int, step: int, tape: Tape) -> None:
        super().__init__(problem, seed)
        self.begin(step)
        self._tape = tape

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        drawn = Drawn(f"draw_{stream}", (size,))
        return self._tape.feed(drawn, lambda: Oracle._draw(self, stream, n, size, device))

    def normal(self, n: int) -> Tensor:
        """A normal vector."""
        return self._tape.feed(Drawn("normal", (n,)), lambda: Oracle.normal(self, n))

    def integer(self, n: int) -> Any:
        """A whole number, followed like the numbers of the state."""
        k = len(self._tape.integers)
        self._tape.integers.append(n)
        return Number(self._tape, super().integer(n), lambda host: host[1][k])


def integers(seed: int, step: int, highs: Sequence[int]) -> list[int]:
    """The whole numbers that an oracle answers at a step, one below each of the upper ends."""
    return [int(generator(seed, "integer", step, k).integers(n)) for k, n in enumerate(highs)]
