"""A solver that steps all seeds of an experiment at once: one step is recorded and mapped over the seeds.

The graph of a step takes the state, the random draws and the problem's data as inputs, so ``torch.func.vmap`` maps it
over what differs from seed to seed; what is equal for all is kept once. Every seed meets the minibatches of its
sequential run. The first step by each recording is held to the sequential steps of all seeds: a problem whose f or g
reads something that it did not ``put`` is refused. In a run of many steps the graph is compiled: that takes seconds,
and a step of small tensors is then several times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from bilevelbench.core.engines import compile_graph
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start
from bilevelbench.core.tape import Drawn
from bilevelbench.core.traced import CLOSE, Flat, Recording, Run, Traced, flatten, unflatten

LONG = 5000  # steps from which on a graph is compiled


class Oracles(Oracle):
    """The oracles of all seeds. Its counts are those of each."""

    def __init__(self, problems: Sequence[Problem], seeds: Sequence[int]) -> None:
        super().__init__(problems[0], seeds[0])
        self.each = [Oracle(problem, seed) for problem, seed in zip(problems, seeds, strict=True)]

    def begin(self, step: int) -> None:
        """Say which step comes next."""
        super().begin(step)
        for oracle in self.each:
            oracle.begin(step)

    def _stacked(self, method: str, argument: int) -> Tensor:
        next(self._ticks[method, None, ""])
        return torch.stack([getattr(oracle, method)(argument) for oracle in self.each])

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        return self._stacked(f"draw_{stream}", size)

    def normal(self, n: int) -> Tensor:
        """A normal vector for each seed."""
        return self._stacked("normal", n)


class Seeds:
    """What all seeds of an experiment have in common, and what they have not."""

    def __init__(self, solver: Solver, problems: Sequence[Problem], data: Sequence[Sequence[Tensor]]) -> None:
        self._all, self._data, self._of = problems, data, solver

    def start(self, o: Oracles) -> Any:
        """The first states, stacked."""
        flat = [flatten(start(self._of, *each)) for each in zip(self._all, o.each, strict=True)]
        if any((other.form, other.numbers) != (flat[0].form, flat[0].numbers) for other in flat):
            raise Unsupported(f"the states of {self._of.name} differ between seeds in more than their tensors")
        o._tally.add(o.each[0]._tally.read())
        tensors = [_stack(parts) for parts in zip(*(each.tensors for each in flat), strict=True)]
        return unflatten(flat[0].form, iter(tensors), iter(flat[0].numbers))

    def _own(self, recording: Recording) -> list[tuple[Tensor, bool]]:
        """What a step reads, stacked where it differs from seed to seed, and whether it does."""
        if recording.integers:
            raise Unsupported(f"the whole numbers that {self._of.name} draws differ between seeds")
        found = []
        for held in recording.data:
            places = [i for i, own in enumerate(self._data[0]) if own is held]
            parts = [own[places[0]] for own in self._data] if places else [held]
            shared = all(part.shape == held.shape and torch.equal(part, held) for part in parts)
            found.append((held, False) if shared else (_stack(parts), True))
        return found

    def _check(self, o: Oracles, s: Any, new: Any) -> None:
        """Hold a step of all seeds to the sequential ones."""
        for i, each in enumerate(o.each):
            oracle = Oracle(self._all[i], each.seed)
            oracle.begin(o.step)
            alone = flatten(self._of.step(oracle, one_of(s, i)))
            for a, b in zip(flatten(one_of(new, i)).tensors, alone.tensors, strict=True):
                if not torch.allclose(a, b, CLOSE[b.dtype] if b.is_floating_point() else 0.0, 1e-12, equal_nan=True):
                    raise Unsupported(
                        f"seeds cannot be run together: seed {each.seed} gets another step of {self._of.name} than "
                        "alone; f or g may read what the problem did not put"
                    )


class Together(Seeds, Traced):
    """A solver that steps all seeds at once. The tensors of its states have a first dimension more: the seed."""

    def __init__(
        self, solver: Solver, problems: Sequence[Problem], data: Sequence[Sequence[Tensor]], long: bool = False
    ) -> None:
        Seeds.__init__(self, solver, problems, data)
        Traced.__init__(self, solver, problems[0], self._map)
        self._long = long

    def step(self, o: Any, s: Any) -> Any:
        """One step of every seed."""
        known = len(self._made)
        new = super().step(o, s)
        if len(self._made) > known:
            self._check(o, s, new)
        return new

    def _record(self, o: Oracle, flat: Flat) -> Recording:
        return super()._record(o, Flat([tensor[0] for tensor in flat.tensors], flat.numbers, flat.form))

    def _map(self, recording: Recording) -> Run:
        """The graph of one seed's step, mapped over the seeds and recorded again."""
        data, differ = zip(*found, strict=True) if (found := self._own(recording)) else ((), ())
        n = len(recording.inputs) - len(recording.data) - len(recording.feeds)
        each = [*[True] * n, *[isinstance(feed, Drawn) for feed in recording.feeds]]
        dims = tuple(0 if many else None for many in (*each, *differ))
        count = len(self._all)
        before = [
            tensor.expand(count, *tensor.shape).clone() if many else tensor
            for tensor, many in zip(recording.inputs[: len(each)], each, strict=True)
        ]
        inputs = [*before, *data]
        mapped = make_fx(torch.func.vmap(recording.graph, dims))(*inputs)
        step = _compiled(mapped, inputs) if self._long else mapped
        return lambda *given: step(*given[: len(given) - len(data)], *data)


def _compiled(graph: GraphModule, inputs: list[Tensor]) -> Any:
    """The graph compiled; as it is where this machine has no compiler."""
    try:
        return compile_graph(graph, inputs)
    except Unsupported:
        return graph


def one_of(state: Any, i: int) -> Any:
    """The state of the i-th seed."""
    flat = flatten(state)
    return unflatten(flat.form, iter([tensor[i] for tensor in flat.tensors]), iter(flat.numbers))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    if any(part.shape != parts[0].shape for part in parts):
        raise Unsupported("seeds cannot be run together: their data have different shapes")
    return torch.stack([*parts])
