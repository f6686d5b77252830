"""A step as a graph: recorded once by running it, then run at every step without the Python that made it.

The eager engine is recorded below autograd, so that a graph holds the tensor operations of a step and of its
derivatives and nothing else. Its inputs are the state's tensors, the numbers and random draws that the step meets
(``tape``), and the problem's data, so that one graph serves every seed. What was counted while it was recorded is
counted again at every run. A step that takes another way through Python is recorded once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from .errors import Unsupported
from .meter import Counts
from .oracle import Oracle
from .problem import Problem
from .solver import Solver, State
from .tape import Drawn, Fixed, Host, Number, Recipe, Shifted, Tape, TapedOracle, integers

MOST = 12  # recordings of one solver; each is compiled by itself
DRAWS = ("draw_f", "draw_g", "normal")  # counted when they are drawn, not when they were recorded
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of one step: rounding is far below, a wrong one far above
STRIPPED = (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh_copy.default, torch.ops.aten.alias.default)

Run = Callable[..., Sequence[Tensor]]


class Accounts(Protocol):
    """What books the seconds of recording and compiling: the run's stopwatch."""

    def account(self, name: str) -> contextlib.AbstractContextManager[None]: ...


@dataclass
class Flat:
    """A state taken apart. ``form`` holds its tuples with, at each leaf, "tensor", "number" or the constant there."""

    tensors: list[Tensor]
    numbers: list[Any]
    form: Any


def flatten(state: Any) -> Flat:
    """Take a state apart."""
    flat = Flat([], [], None)
    flat.form = _form(state, flat)
    return flat


def _form(part: Any, flat: Flat) -> Any:
    if isinstance(part, Tensor):
        flat.tensors.append(part)
        return "tensor"
    if isinstance(part, (list, tuple)):
        return type(part), tuple([_form(item, flat) for item in part])
    if isinstance(part, Number) or type(part) in (int, float):
        flat.numbers.append(part)
        return "number"
    return (part,)


def unflatten(form: Any, tensors: Iterator[Tensor], numbers: Iterator[Any]) -> Any:
    """Put a state together."""
    if form == "tensor":
        return next(tensors)
    if form == "number":
        return next(numbers)
    if len(form) == 1:
        return form[0]
    kind, parts = form
    made = [unflatten(part, tensors, numbers) for part in parts]
    return kind._make(made) if hasattr(kind, "_make") else kind(made)


@dataclass
class Recording:
    """One way through a step. graph: (the state's tensors, feeds, data) -> the new state's tensors."""

    graph: GraphModule
    inputs: list[Tensor]  # those that it was recorded with
    data: list[Tensor]  # what f and g read, the last of the inputs
    form: Any
    new_form: Any
    new_numbers: list[Recipe]
    feeds: list[Recipe | Drawn]
    guards: list[tuple[Recipe, Any]]
    integers: list[int]
    counts: Counts

    def host(self, oracle: Oracle, numbers: Sequence[Any]) -> Host:
        """The numbers of a step."""
        return numbers, integers(oracle.seed, oracle.step, self.integers) if self.integers else ()

    def fits(self, form: Any, host: Host) -> bool:
        """Whether a step with these numbers takes this way."""
        return bool(form == self.form) and all(recipe(host) == outcome for recipe, outcome in self.guards)

    def fed(self, oracle: Oracle, host: Host, like: Tensor) -> list[Tensor]:
        """The further inputs of a step."""
        return [
            getattr(oracle, feed.method)(*feed.arguments)
            if isinstance(feed, Drawn)
            else torch.tensor(feed(host), dtype=like.dtype, device=like.device)
            for feed in self.feeds
        ]


def record(solver: Solver, problem: Problem, seed: int, step: int, state: State) -> Recording:
    """Run one step and record it. ``Unsupported`` says why a step cannot be."""
    flat = flatten(state)
    dry = Tape(flat.tensors[0])
    oracle = TapedOracle(problem, seed, step, dry)
    try:
        new = flatten(solver.step(oracle, _numbered(flat, dry, flat.tensors)))
    except Unsupported:
        raise
    except Exception as error:
        plain = Oracle(problem, seed)
        plain.begin(step)
        solver.step(plain, state)  # raises where the step itself is wrong
        raise _unrecorded(solver, error) from error

    def run(*inputs: Tensor) -> list[Tensor]:
        n = len(flat.tensors)
        tape = Tape(inputs[0], inputs[n:])
        return flatten(solver.step(TapedOracle(problem, seed, step, tape), _numbered(flat, tape, inputs[:n]))).tensors

    inputs = [tensor.clone() for tensor in (*flat.tensors, *dry.seen)]  # one tensor twice would be one input
    try:
        graph = make_fx(run)(*inputs)
    except Unsupported:
        raise
    except Exception as error:
        raise _unrecorded(solver, error) from error
    data = lift(graph)
    counts = {answer: n for answer, n in oracle._tally.read().items() if answer[0] not in DRAWS}
    return Recording(
        graph, inputs + data, data, flat.form, new.form, [_recipe(number) for number in new.numbers],
        dry.feeds, dry.guards, dry.integers, counts,
    )  # fmt: skip


def _unrecorded(solver: Solver, error: Exception) -> Unsupported:
    words = str(error).strip().partition("\n")[0]
    if "data-dependent" in words:
        words = "it decides in Python by the value of a tensor"
    elif "of Number" in words:
        words = "it makes a tensor of numbers that it draws or keeps"
    return Unsupported(f"a step of {solver.name} cannot be recorded as a graph: {words[:200]}")


def _numbered(flat: Flat, tape: Tape, tensors: Sequence[Tensor]) -> Any:
    numbers = [Number(tape, value, Shifted(i)) for i, value in enumerate(flat.numbers)]
    return unflatten(flat.form, iter(tensors), iter(numbers))


def _recipe(number: Any) -> Recipe:
    return number.recipe if isinstance(number, Number) else Fixed(number)


def lift(graph: GraphModule) -> list[Tensor]:
    """Make the tensors that a graph holds its last inputs, each once; operations that change nothing go."""
    nodes = graph.graph
    last = [node for node in nodes.nodes if node.op == "placeholder"][-1]
    lifted: dict[int, tuple[Tensor, Any]] = {}
    for node in list(nodes.nodes):
        if node.target in STRIPPED:
            node.replace_all_uses_with(node.args[0])
        elif node.op == "get_attr":
            held = getattr(graph, str(node.target))
            if id(held) not in lifted:
                with nodes.inserting_after(last):
                    last = nodes.placeholder(f"data_{len(lifted)}")
                lifted[id(held)] = held, last
            node.replace_all_uses_with(lifted[id(held)][1])
            nodes.erase_node(node)
    nodes.eliminate_dead_code()
    for node in nodes.nodes:
        node.meta.clear()  # the recording's own shapes would keep the compiler from its cache
    graph.recompile()
    return [held for held, _ in lifted.values()]


class Traced:
    """A solver whose steps are run as graphs. ``build`` makes of a recording what runs it.

    Recording and building is booked to the account "compile" of ``watch``, and stays out of the clock of the steps.
    """

    def __init__(
        self, solver: Solver, problem: Problem, build: Callable[[Recording], Any], watch: Accounts | None = None
    ) -> None:
        self._solver, self._problem, self._build, self._watch = solver, problem, build, watch
        self._made: list[tuple[Recording, Any]] = []
        self._last: tuple[Any, Flat] = (None, Flat([], [], None))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def step(self, o: Oracle, s: Any) -> Any:
        """One step, by the recording that fits."""
        flat = self._flat(s)
        recording, host, run = self._find(o, flat)
        with torch.no_grad():
            tensors = list(run(*flat.tensors, *recording.fed(o, host, flat.tensors[0]), *recording.data))
        o._tally.add(recording.counts)
        return self._whole(Flat(tensors, [recipe(host) for recipe in recording.new_numbers], recording.new_form))

    def _flat(self, s: Any) -> Flat:
        """A state taken apart, as the last step left it where it is that one's."""
        return self._last[1] if s is self._last[0] else flatten(s)

    def _whole(self, flat: Flat) -> Any:
        """The state that a step ends with."""
        self._last = unflatten(flat.form, iter(flat.tensors), iter(flat.numbers)), flat
        return self._last[0]

    def _record(self, o: Oracle, flat: Flat) -> Recording:
        state = unflatten(flat.form, iter(flat.tensors), iter(flat.numbers))
        return record(self._solver, self._problem, o.seed, o.step, state)

    def _find(self, o: Oracle, flat: Flat) -> tuple[Recording, Host, Any]:
        for recording, run in self._made:
            host = recording.host(o, flat.numbers)
            if recording.fits(flat.form, host):
                return recording, host, run
        if len(self._made) == MOST:
            raise Unsupported(f"the steps of {self._solver.name} take more than {MOST} ways through Python")
        with self._watch.account("compile") if self._watch else contextlib.nullcontext():
            recording = self._record(o, flat)
            run = self._build(recording)
        self._made.append((recording, run))
        return recording, recording.host(o, flat.numbers), run
