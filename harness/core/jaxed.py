"""The engine jax: from look to look all steps in few calls, with no Python between them.

A recorded step (``traced``) is lowered to JAX, operation by operation (``aten``), and repeated by ``fori_loop``. The
numbers and random draws of a step never depend on its tensors, so those of many steps are made before any of them runs,
and a step takes its own from the stack. A step that takes another way through Python ends a call.

The first step of each recording is held to torch's: what differs by more than rounding is refused. What does differ:
sums are in another order, and XLA on the CPU takes numbers below the least normal one (2e-308 in float64, 1e-38 in
float32) for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import Unsupported
from .lowered import array_of, here, jax, known, lowered, tensor_of
from .oracle import Oracle
from .problem import Problem
from .solver import Solver, Stretching
from .tape import Drawn, Fixed, Host, Shifted
from .traced import CLOSE, Accounts, Flat, Recording, Traced, unflatten

LONGEST = 12000  # operations in a graph: XLA takes about a second for each thousand
AHEAD, ROOM = 256, 16 << 20  # steps whose numbers and draws are made before they run, and bytes that these may take


class Loop(NamedTuple):
    """A recording, lowered."""

    run: Any  # (how many steps, state, stacks of what they are fed, data) -> state
    data: list[Any]
    most: int  # steps of a call
    fed: list[Any]  # what one step was fed


class Jaxed(Traced, Stretching):
    """A solver whose steps run many a call."""

    def __init__(self, solver: Solver, problem: Problem, watch: Accounts | None = None) -> None:
        super().__init__(solver, problem, self._lower, watch)
        jax()

    def step(self, o: Oracle, s: Any) -> Any:
        """One step."""
        return self.stretch(o, s, o.step, o.step + 1)

    def stretch(self, o: Oracle, s: Any, first: int, last: int) -> Any:
        """The state after the steps from ``first`` up to ``last``."""
        if first == last:
            return s
        flat = self._flat(s)
        while first < last:
            o.begin(first)
            recording, host, loop = self._find(o, flat)
            n, fed, numbers = _ahead(recording, loop, o, host, first, last)
            with here():
                arrays = loop.run(n, [array_of(part) for part in flat.tensors], fed, loop.data)
            o._tally.add({answer: count * n for answer, count in recording.counts.items()})
            flat = Flat(arrays, numbers, recording.new_form)
            first += n
        new = unflatten(flat.form, iter([tensor_of(array) for array in flat.tensors]), iter(flat.numbers))
        self._last = new, flat
        return new

    def _record(self, o: Oracle, flat: Flat) -> Recording:
        return super()._record(o, Flat([tensor_of(part) for part in flat.tensors], flat.numbers, flat.form))

    def _lower(self, recording: Recording) -> Loop:
        """Compile a recording, and hold its first step to torch's."""
        if (n := len(recording.graph.graph.nodes)) > LONGEST:
            raise Unsupported(f"a step of {n} operations would compile for minutes; --engine compiled_oracle does not")
        with torch.no_grad():
            wanted = list(recording.graph(*[tensor.clone() for tensor in recording.inputs]))
        try:
            loop, found = self._compiled(recording, wanted)
        except Unsupported as reason:
            raise Unsupported(f"a step of {self._solver.name} cannot be lowered to JAX: {reason}") from None
        except Exception as error:
            words = str(error).strip().partition("\n")[0][:200]
            raise Unsupported(f"a step of {self._solver.name} cannot be lowered to JAX: {words}") from error
        if (apart := _apart(found, wanted, recording.inputs)) > CLOSE[recording.inputs[0].dtype]:
            raise Unsupported(
                f"a step of {self._solver.name} by JAX is {apart:.1e} of its largest entry from that by torch"
            )
        return loop

    def _compiled(self, recording: Recording, wanted: Sequence[Tensor]) -> tuple[Loop, list[Tensor]]:
        """A recording lowered and compiled, and what its first step answers by JAX."""
        n, k = len(recording.inputs) - len(recording.data), len(recording.feeds)
        state, fed = recording.inputs[: n - k], recording.inputs[n - k : n]
        graph, more = known(recording.graph, recording.inputs)
        again, most = self._times(recording, wanted, sum(tensor.nbytes for tensor in fed))
        with here() as jax:
            data = [jax.device_put(array_of(tensor), may_alias=True) for tensor in (*recording.data, *more)]
            run = jax.jit(repeated(lowered(graph)) if again else once(lowered(graph)))
            loop = Loop(run, data, most, [array_of(tensor) for tensor in fed])
            stacks = [np.repeat(like[None], most, 0) for like in loop.fed]
            found = run(1, [array_of(tensor) for tensor in state], stacks, data)
            if again:
                run(0, found, stacks, data)  # where the state comes from JAX
        return loop, [tensor_of(array) for array in found]

    def _times(self, recording: Recording, wanted: Sequence[Tensor], room: int) -> tuple[bool, int]:
        """Whether a step can follow itself, and how often at most in a call that makes ``room`` bytes for each."""
        again = recording.form == recording.new_form and _kinds(wanted) == _kinds(recording.inputs[: len(wanted)])
        return again, max(1, min(AHEAD, ROOM // max(1, room))) if again else 1


def repeated(step: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A number of steps, each of which takes its own from the stacks of what they are fed."""
    lax = jax().lax

    def run(times: Any, state: list[Any], fed: list[Any], data: list[Any]) -> list[Any]:
        def body(i: Any, state: list[Any]) -> list[Any]:
            return step(*state, *[lax.dynamic_index_in_dim(stack, i, keepdims=False) for stack in fed], *data)

        return list(lax.fori_loop(0, times, body, state))

    return run


def once(step: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """One step, whose state is another thing than it was."""
    return lambda times, state, fed, data: step(*state, *[stack[0] for stack in fed], *data)


def _kinds(tensors: Sequence[Tensor]) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in tensors]


def _apart(found: Sequence[Tensor], wanted: Sequence[Tensor], inputs: Sequence[Tensor]) -> float:
    """How far an answer is from torch's, in shares of the largest number about; NaN is NaN, infinity is infinity."""
    if _kinds(found) != _kinds(wanted):
        return float("inf")
    one, other, about = (torch.cat([part.reshape(-1).double() for part in parts]) for parts in (found, wanted, inputs))
    about = torch.cat([other, about]).abs()
    same = (one == other) | (one.isnan() & other.isnan())
    apart = torch.where(same, 0.0, (one - other).abs() / about[about.isfinite()].max())
    return float(apart.nan_to_num(float("inf")).max()) if len(apart) else 0.0


def _ahead(
    recording: Recording, loop: Loop, o: Oracle, host: Host, first: int, last: int
) -> tuple[int, list[Any], list[Any]]:
    """How many of the next steps take this way in one call, what each is fed, and the numbers of the state after them.

    ``host``: the numbers of the first, which the oracle was told of.
    """
    steps = last - first if loop.most > 1 else 1
    if (after := _counted(recording, host[0], steps)) is not None:
        return steps, [], after
    stacks = [np.empty((loop.most, *like.shape), like.dtype) for like in loop.fed]
    n, numbers = 0, list(host[0])
    while n < min(loop.most, last - first):
        if n:
            o.begin(first + n)
            host = recording.host(o, numbers)
            if not recording.fits(recording.form, host):
                break
        for stack, feed in zip(stacks, recording.feeds, strict=True):
            given = getattr(o, feed.method)(*feed.arguments) if isinstance(feed, Drawn) else feed(host)
            stack[n] = array_of(given)
        numbers = [recipe(host) for recipe in recording.new_numbers]
        n += 1
    return n, stacks, numbers


def _counted(recording: Recording, numbers: Sequence[Any], steps: int) -> list[Any] | None:
    """The numbers of the state after so many steps, where no step depends on any and all are counts; else None."""
    if recording.feeds or recording.guards or recording.integers or recording.form != recording.new_form:
        return None
    after = list[Any]()
    for place, recipe in enumerate(recording.new_numbers):
        if isinstance(recipe, Shifted) and recipe.place == place:
            after.append(numbers[place] + steps * recipe.by)
        elif isinstance(recipe, Fixed):
            after.append(recipe.value)
        else:
            return None
    return after
