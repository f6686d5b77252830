"""All seeds of an experiment in one pass: one step is recorded and mapped over the seeds.

The graph of a step takes the state, the random draws and the problem's data as inputs, so ``torch.func.vmap`` maps it
over what differs from seed to seed; what is equal for all is kept once. Every seed meets the minibatches of its
sequential run. The first step by each recording is held to the sequential steps of all seeds: a problem whose f or g
reads something that it did not ``put`` is refused. There are no seconds: they would be nobody's. In a run of many steps
the graph is compiled, which takes some twenty seconds and makes a step of small tensors seven times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, Solver, require, start, stretch
from bilevelbench.core.stream import refuse_stream
from bilevelbench.core.tape import Drawn
from bilevelbench.core.traced import Recording, Run, Traced, flatten, record, unflatten
from bilevelbench.measure.budget import Budget, Used, looks
from bilevelbench.measure.clock import INIT, STEPS, Stopwatch
from bilevelbench.measure.env import now
from bilevelbench.measure.failure import failed
from bilevelbench.measure.guards import guard
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.marks import Marks
from bilevelbench.measure.plan import planned
from bilevelbench.measure.trace import Judgement, judged, own_figures
from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import FINAL, Header, Row

from .describe import MOST_ITERATES, describe_problem, describe_solver
from .job import Job, Order
from .stage import Stage, Tell, machine, refused, silent, timeless

LONG = 5000  # steps from which on a graph is compiled
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of one step: rounding is far below, wrong data are far above


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


class Together(Traced):
    """A solver that steps all seeds at once. The tensors of its states have a first dimension more: the seed."""

    def __init__(
        self, solver: Solver, problems: Sequence[Problem], data: Sequence[Sequence[Tensor]], long: bool = False
    ) -> None:
        super().__init__(solver, problems[0], self._map)
        self._problems, self._data, self._long = problems, data, long

    def start(self, o: Oracles) -> Any:
        """The first states, stacked."""
        flat = [flatten(start(self._solver, *each)) for each in zip(self._problems, o.each, strict=True)]
        if any((other.form, other.numbers) != (flat[0].form, flat[0].numbers) for other in flat):
            raise Unsupported(f"the states of {self._solver.name} differ between seeds in more than their tensors")
        o._tally.add(o.each[0]._tally.read())
        tensors = [_stack(parts) for parts in zip(*(each.tensors for each in flat), strict=True)]
        return unflatten(flat[0].form, iter(tensors), iter(flat[0].numbers))

    def step(self, o: Any, s: Any) -> Any:
        """One step of every seed."""
        known = len(self._made)
        new = super().step(o, s)
        if len(self._made) > known:
            self._check(o, s, new)
        return new

    def _record(self, o: Oracle, s: Any) -> Recording:
        return record(self._solver, self._problem, o.seed, o.step, one_of(s, 0))

    def _map(self, recording: Recording) -> Run:
        """The graph of one seed's step, mapped over the seeds and recorded again."""
        if recording.integers:
            raise Unsupported(f"the whole numbers that {self._solver.name} draws differ between seeds")
        data, dims = [], []
        for held in recording.data:
            places = [i for i, own in enumerate(self._data[0]) if own is held]
            parts = [own[places[0]] for own in self._data] if places else [held]
            shared = all(part.shape == held.shape and torch.equal(part, held) for part in parts)
            data.append(held if shared else _stack(parts))
            dims.append(None if shared else 0)
        n = len(recording.inputs) - len(recording.data) - len(recording.feeds)
        dims = [0] * n + [0 if isinstance(feed, Drawn) else None for feed in recording.feeds] + dims
        count = len(self._problems)
        made = recording.inputs[: len(recording.inputs) - len(data)] + data
        inputs = [
            t.expand(count, *t.shape).clone() if dim == 0 and i < len(made) - len(data) else t
            for i, (t, dim) in enumerate(zip(made, dims, strict=True))
        ]
        mapped = make_fx(torch.func.vmap(recording.graph, tuple(dims)))(*inputs)
        if self._long:
            mapped = _compiled(mapped, inputs)
        return lambda *given: mapped(*given[: len(given) - len(data)], *data)

    def _check(self, o: Oracles, s: Any, new: Any) -> None:
        """Hold a step of all seeds to the sequential ones."""
        for i, each in enumerate(o.each):
            oracle = Oracle(self._problems[i], each.seed)
            oracle.begin(o.step)
            alone = flatten(self._solver.step(oracle, one_of(s, i)))
            for a, b in zip(flatten(one_of(new, i)).tensors, alone.tensors, strict=True):
                if not torch.allclose(a, b, CLOSE[b.dtype] if b.is_floating_point() else 0.0, 1e-12, equal_nan=True):
                    raise Unsupported(
                        f"seeds cannot be run together: seed {each.seed} gets another step of {self._solver.name} than "
                        "alone; f or g may read what the problem did not put"
                    )


def _compiled(graph: Any, inputs: Sequence[Tensor]) -> Any:
    """The graph compiled; as it is where this machine has no compiler."""
    made: Any = torch.compile(graph, dynamic=False)
    try:
        made(*inputs)
    except Exception:
        return graph
    return made


def one_of(state: Any, i: int) -> Any:
    """The state of the i-th seed."""
    flat = flatten(state)
    return unflatten(flat.form, iter([tensor[i] for tensor in flat.tensors]), iter(flat.numbers))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    if any(part.shape != parts[0].shape for part in parts):
        raise Unsupported("seeds cannot be run together: their data have different shapes")
    return torch.stack([*parts])


def trace_together(
    problems: Sequence[Problem], data: Sequence[Sequence[Tensor]], solver: Solver, seeds: Sequence[int],
    budget: Budget, judges: Sequence[Judgement], iterates: bool, tell: Callable[[str], None] = lambda phase: None,
    marks: Marks | None = None, audited: int = 0,
) -> Iterator[list[Row | None]]:  # fmt: skip
    """The rows of all seeds, look by look, as ``trace`` gives them for each, without seconds; None after the last.

    ``marks``: where states of the seed in place ``audited`` are kept for the audit.
    """
    o, watch = Oracles(problems, seeds), Stopwatch(lambda: None, tell=tell)
    together: Any = Together(solver, problems, data, (budget.steps or 0) >= LONG)
    last = [Row(0) for _ in seeds]

    used: Callable[[], Used] = lambda: Used(0.0, total(o.calls), total(o.rows))  # noqa: E731

    def look_at(state: Any, step: int, ended_by: str) -> list[Row | None]:
        rows: list[Row | None] = []
        for i, problem in enumerate(problems):
            if last[i].status in FINAL:
                rows.append(None)
                continue
            try:
                point = Point(state.x[i], state.y[i])
                own = own_figures(solver, one_of(state, i))
                last[i] = judged(step, point, problem, o._tally, judges[i], watch, iterates, bool(ended_by), own)
                if ended_by:
                    last[i].status, last[i].ended_by = "done", ended_by
            except BaseException as error:
                last[i] = failed(last[i], error)
            rows.append(timeless(last[i]))
        return rows

    try:
        with watch.account(INIT):
            state = together.start(o)
        if marks:
            marks.write(0, 0, (), one_of(state, audited), ({}, o._tally.shot()))
        schedule, step, init = looks(), 0, used()
        ended_by = budget.spent(0, init, init)
        yield look_at(state, 0, ended_by)
        while not ended_by:
            look = min(next(schedule), step + budget.room(step, used(), init))
            begin, end = marks.within(step, look) if marks else (step, step)
            with watch.account(STEPS):
                before = stretch(together, o, state, step, begin)
                at_begin = o._tally.shot()
                after = stretch(together, o, before, begin, end)
                at_end = o._tally.shot()
                state = stretch(together, o, after, end, look)
            if marks:
                marks.write(begin, end, one_of(before, audited), one_of(after, audited), (at_begin, at_end))
            step = look
            ended_by = budget.spent(step, used(), init)
            yield look_at(state, step, ended_by)
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            raise
        yield [None if row.status in FINAL else timeless(failed(row, error)) for row in last]


def execute_together(jobs: Sequence[Job], order: Order | None = None, tell: Tell = silent) -> None:
    """Make the runs of several seeds of one experiment and write their files, one for each."""
    order, key, stage = order or Order([*jobs]), jobs[0].key, Stage(tell)
    torch.set_num_threads(key.threads)
    budget = Budget(key.steps, key.seconds, key.calls, key.rows)
    journals = [Journal(job.path) for job in jobs]
    made: list[tuple[Problem, Problem, list[Tensor]]] = []
    solver = None
    for job, journal in zip(jobs, journals, strict=True):
        given = {"given": job.problem}, {"given": job.solver}
        header = Header(job.key, *given, machine(order, key.device), job.suite, job.command, now(), job.timeout)
        try:
            stage("solver")
            header.solver, solver = describe_solver(job.solver, job.tuned), make_solver(job.solver)
            stage("problem")
            rngs = [Draw(job.key.seed, key.device, dtype) for dtype in (getattr(torch, key.dtype), torch.float64)]
            problem, exact = (build_problem(job.problem, rng) for rng in rngs)
            iterates = key.iterates and problem.x0.numel() + problem.y0.numel() <= MOST_ITERATES
            stage("references")
            header.problem = describe_problem(job.problem, exact, iterates)
            header.problem["judged"] = planned(exact, budget, key.judge).words
            stage("guards")
            require(solver, problem)
            refuse_stream(problem.stream is not None, key.engine)
            build = partial(build_problem, job.problem)
            header.problem |= guard(build, problem, rngs[0], exact, rngs[1], solver)
            made.append((problem, exact, rngs[0].data))
            journal.begin(header)
        except BaseException as error:  # what one seed cannot, none can
            journal.begin(header)
            for other, each in zip(jobs, journals, strict=True):
                if not other.path.exists():
                    each.begin(replace(header, key=other.key))
                each.append(refused(error, stage.name))
            return
    assert solver is not None
    problems, exacts, data = zip(*made, strict=True)
    judges = [Judge(exact, planned(exact, budget, key.judge)) for exact in exacts]
    seeds = [job.key.seed for job in jobs]
    marks = Marks(order.states) if order.states else None
    every = trace_together(problems, data, solver, seeds, budget, judges, iterates, stage, marks, order.audited)
    for rows in every:
        for journal, row in zip(journals, rows, strict=True):
            if row is not None:
                journal.append(row)
