"""All seeds of an experiment by the engine jax: a stretch of steps of every seed in one call.

Either the step is mapped over the seeds, which go side by side, or each seed makes all of its steps before the next one
begins. The first is the faster where a step is small; where the data that each seed has of its own do not fit the
processor's cache together the second is, for one seed's then stay there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bilevelbench.core.jaxed import Jaxed, Loop, once, repeated
from bilevelbench.core.lowered import array_of, here, jax, known, lowered, tensor_of
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver
from bilevelbench.core.tape import Drawn
from bilevelbench.core.traced import Flat, Recording

from .together import Seeds

SIDE, TURN = "all seeds side by side, by JAX", "one seed after the other, by JAX"
# Bytes of data of all seeds from which on they go one after the other. Seen with BOME on quadratics, CPU seconds of
# turn over side: 3.6 at 51 kB (64 seeds, d = 10), 1.2 at 320 kB (16, d = 50), .87 at 1.3 MB (16, d = 100), .65 at 5 MB.
CACHE = 1 << 20


def way(data: Sequence[Tensor], seeds: int) -> str:
    """How so many seeds with such data each are stepped, in words."""
    return SIDE if seeds * sum(tensor.nbytes for tensor in data) <= CACHE else TURN


class Strided(Seeds, Jaxed):
    """A solver that steps all seeds, many steps a call. The tensors of its states have a first dimension more."""

    def __init__(self, solver: Solver, problems: Sequence[Problem], data: Sequence[Sequence[Tensor]]) -> None:
        Seeds.__init__(self, solver, problems, data)
        Jaxed.__init__(self, solver, problems[0])
        self._mapped = way(data[0], len(data)) == SIDE

    def stretch(self, o: Any, s: Any, first: int, last: int) -> Any:
        """The states after the steps from ``first`` up to ``last``; the first step of a recording is checked."""
        while first < last:
            before = len(self._made)
            o.begin(first)
            self._find(o, self._flat(s))
            fresh = len(self._made) > before
            end = first + 1 if fresh else last
            new = super().stretch(o, s, first, end)
            if fresh:
                self._check(o, s, new)
            s, first = new, end
        return s

    def _record(self, o: Oracle, flat: Flat) -> Recording:
        return super()._record(o, Flat([tensor_of(part)[0] for part in flat.tensors], flat.numbers, flat.form))

    def _compiled(self, recording: Recording, wanted: Sequence[Tensor]) -> tuple[Loop, list[Tensor]]:
        """A recording lowered, spread over the seeds and compiled, and what its first step answers for the first."""
        seeds, own = len(self._all), self._own(recording)
        n, k = len(recording.inputs) - len(recording.data), len(recording.feeds)
        graph, more = known(recording.graph, recording.inputs)
        drawn = [isinstance(feed, Drawn) for feed in recording.feeds]
        state = [_spread(tensor, seeds) for tensor in recording.inputs[: n - k]]
        fed = [
            _spread(t, seeds) if each else array_of(t)
            for t, each in zip(recording.inputs[n - k : n], drawn, strict=True)
        ]
        axes = [True] * len(state), drawn, [*(differs for _, differs in own), *(False for _ in more)]
        again, most = self._times(recording, wanted, sum(stack.nbytes for stack in fed))
        with here() as made:
            data = [made.device_put(array_of(tensor), may_alias=True) for tensor in (*(t for t, _ in own), *more)]
            spread = side_by_side if self._mapped else in_turn
            run = made.jit(spread(lowered(graph), repeated if again else once, axes, seeds))
            loop = Loop(run, data, most, fed)
            stacks = [np.repeat(like[None], most, 0) for like in fed]
            found = run(1, state, stacks, data)
            if again:
                run(0, found, stacks, data)
        return loop, [tensor_of(array)[0] for array in found]


Step = Callable[..., list[Any]]
Axes = tuple[list[bool], list[bool], list[bool]]  # of state, feeds and data: which differ from seed to seed


def _spread(tensor: Tensor, seeds: int) -> Any:
    return np.repeat(array_of(tensor)[None], seeds, 0)


def side_by_side(step: Step, loop: Callable[[Step], Step], axes: Axes, seeds: int) -> Step:
    """The step mapped over the seeds, and repeated."""
    return loop(jax().vmap(step, tuple(0 if differs else None for part in axes for differs in part)))


def in_turn(step: Step, loop: Callable[[Step], Step], axes: Axes, seeds: int) -> Step:
    """The step repeated, for one seed after the other."""
    made = jax()
    one = loop(step)

    def run(times: Any, state: list[Any], fed: list[Any], data: list[Any]) -> list[Any]:
        def of_seed(i: Any) -> list[Any]:
            def part(whole: Sequence[Any], differ: Sequence[bool], axis: int) -> list[Any]:
                return [
                    made.lax.dynamic_index_in_dim(array, i, axis, keepdims=False) if differs else array
                    for array, differs in zip(whole, differ, strict=True)
                ]

            return one(times, part(state, axes[0], 0), part(fed, axes[1], 1), part(data, axes[2], 0))

        return list(made.lax.map(of_seed, made.numpy.arange(seeds)))

    return run
