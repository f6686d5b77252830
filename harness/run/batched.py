"""The runs of all seeds of an experiment, in one pass (``together``). They have no seconds: these would be nobody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, Solver, require, stretch
from bilevelbench.core.spec import missing
from bilevelbench.core.stream import refuse_stream
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
from .together import LONG, Oracles, Together, one_of


def trace_together(
    problems: Sequence[Problem], data: Sequence[Sequence[Tensor]], solver: Solver, seeds: Sequence[int],
    budget: Budget, judges: Sequence[Judgement], iterates: bool, tell: Callable[[str], None] = lambda phase: None,
    marks: Marks | None = None, audited: int = 0, together: Any = None,
) -> Iterator[list[Row | None]]:  # fmt: skip
    """The rows of all seeds, look by look, as ``trace`` gives them for each, without seconds; None after the last.

    ``marks``: where states of the seed in place ``audited`` are kept for the audit. ``together``: what steps the seeds,
    where that is known.
    """
    o, watch = Oracles(problems, seeds), Stopwatch(lambda: None, tell=tell)
    together = together or stepper(solver, problems, data, seeds, (budget.steps or 0) >= LONG)[0]
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


TORCH = "all seeds side by side, by torch"


def stepper(
    solver: Solver, problems: Sequence[Problem], data: Sequence[Sequence[Tensor]], seeds: Sequence[int], long: bool
) -> tuple[Any, str]:
    """What steps all seeds, and how, in words: by JAX where it is installed and takes such a step, else by torch."""
    if problems[0].x0.device.type == "cpu" and not missing("jax"):
        from .strided import Strided, way

        strided: Any = Strided(solver, problems, data)
        trial = Oracles(problems, seeds)
        try:
            stretch(strided, trial, strided.start(trial), 0, 1)  # what it compiles is used again
        except Unsupported:
            return Together(solver, problems, data, long), TORCH
        except Exception:
            return strided, way(data[0], len(data))  # the run meets it, too, and says so
        return strided, way(data[0], len(data))
    return Together(solver, problems, data, long), TORCH


def execute_together(jobs: Sequence[Job], order: Order | None = None, tell: Tell = silent) -> None:
    """Make the runs of several seeds of one experiment and write their files, one for each."""
    order, key, stage = order or Order([*jobs]), jobs[0].key, Stage(tell)
    torch.set_num_threads(key.threads)
    budget = Budget(key.steps, key.seconds, key.calls, key.rows)
    journals = [Journal(job.path) for job in jobs]
    made: list[tuple[Problem, Problem, list[Tensor]]] = []
    headers: list[Header] = []
    solver = None
    for job in jobs:
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
            headers.append(header)
        except BaseException as error:  # what one seed cannot, none can
            known = {one.key: one for one in headers}
            for other, each in zip(jobs, journals, strict=True):
                each.begin(known.get(other.key, replace(header, key=other.key)))
                each.append(refused(error, stage.name))
            return
    assert solver is not None
    problems, exacts, data = zip(*made, strict=True)
    judges = [Judge(exact, planned(exact, budget, key.judge)) for exact in exacts]
    seeds = [job.key.seed for job in jobs]
    together, words = stepper(solver, problems, data, seeds, (budget.steps or 0) >= LONG)
    for header, journal in zip(headers, journals, strict=True):
        header.solver["seeds"] = words
        journal.begin(header)
    marks = Marks(order.states) if order.states else None
    every = trace_together(
        problems, data, solver, seeds, budget, judges, iterates, stage, marks, order.audited, together
    )
    for rows in every:
        for journal, row in zip(journals, rows, strict=True):
            if row is not None:
                journal.append(row)
