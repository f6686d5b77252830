"""The one loop: step to the next look, stop the clock, judge, hand out a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bilevelbench.core import derive, functional
from bilevelbench.core import meter as meters
from bilevelbench.core.derive import Derivatives
from bilevelbench.core.door import total
from bilevelbench.core.meter import Meter, Tally, metered
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, State, start, stretch
from bilevelbench.store.schema import FINAL, Row

from . import hook
from .budget import Budget, Used, looks
from .clock import COMPILE, INIT, JUDGE, OVERHEAD, STEPS, Stopwatch
from .failure import AtLook, Diverged, Foul, Impure, broken, failed
from .intact import Intact
from .marks import Marks, pack
from .seal import CHANGED, Seal

Judgement = Callable[[Tensor, Tensor, int, bool], dict[str, float]]  # of x, y at a step, the last one or not


def trace(
    problem: Problem, solver: Solver, seed: int, budget: Budget, judge: Judgement, watch: Stopwatch, iterates: bool,
    derivatives: Derivatives = derive, meter: Meter | None = None, marks: Marks | None = None,
    intact: Intact | None = None, keep: Callable[[State], None] = lambda state: None,
) -> Iterator[Row]:  # fmt: skip
    """Run a solver on a problem and yield one row per look; the last row has a final status.

    ``init`` is on the clock and in the counts of the first row. Between the two readings of the clock there is nothing
    but steps. Whatever goes wrong ends the run in a row, and says whose fault it is: what ``init`` or a step raises (be
    it SystemExit) is the solver's, what the problem's functions raise at sound points, and judging, is the problem's.

    With a ``meter``, what the problem was asked must be what the oracle accounts for, look by look: for engines that
    ask at every answer (eager, functional). ``marks``: where states are kept for the audit. ``intact``: how
    everything was before the solver's file was imported, by default as it is now. ``keep`` gets the last state of a run
    that is done.
    """
    if intact is not None and not intact.untouched():  # while it was imported, or warmed up
        yield broken(Foul(f"the solver {intact.changed() or CHANGED}"))
        return
    run = _Run(problem, solver, seed, derivatives, meter, marks, intact, watch)
    row = run.first(judge, iterates, budget)
    schedule, usual, ended_by = looks(), 0, ""
    while row.status not in FINAL:
        used = run.used()
        ended_by = budget.spent(run.step, used, run.init)
        if ended_by:
            row.status, row.ended_by = "done", ended_by
            keep(run.state)
            break
        yield row
        if problem.stream is None or usual <= run.step:  # a stream's own look may have come before it
            usual = next(schedule)
        look = min(usual, run.step + budget.room(run.step, used, run.init))
        look = problem.stream.next_look(run.step, look) if problem.stream else look
        row = run.until(look, row, judge, iterates, budget)
    yield row


class _Run:
    """A run under way: its ``state``, the ``step`` that it is at, what is held against it. Its methods answer rows."""

    def __init__(
        self, problem: Problem, solver: Solver, seed: int, derivatives: Derivatives, meter: Meter | None,
        marks: Marks | None, intact: Intact | None, watch: Stopwatch,
    ) -> None:  # fmt: skip
        hook.install()
        self.step, self.init = 0, Used()
        self._problem, self._solver, self._marks, self._watch = problem, solver, marks, watch
        self._tally = Tally()
        self._oracle = Oracle(metered(problem, meter) if meter else problem, seed, derivatives, self._tally)
        intact = intact or Intact()
        self._seal = Seal(self._oracle, self._tally, meter, intact)
        # what is called before it is known that nothing was changed must be what it was
        self._kept = start, stretch, watch.turn, intact.untouched, self._seal.look
        self.state: Any = None

    def first(self, judge: Judgement, iterates: bool, budget: Budget) -> Row:
        """The row of the solver's start."""
        row = Row(0)
        try:
            begin, _, turn, untouched, look = self._kept
            shot = self._tally.shot
            turn(INIT)
            try:
                state = begin(self._solver, self._problem, self._oracle)
            finally:
                turn(OVERHEAD)
            stopped = shot()
            look(untouched(), stopped)
            if self._marks:
                self._marks.write(0, 0, (), state, ({}, stopped))
            self.state = state
            self.init = self.used()
            own, last = own_figures(self._solver, state), self._ends(budget)
            row = judged(0, state, self._problem, self._tally, judge, self._watch, iterates, last, own)
        except BaseException as error:
            row = failed(row, error)
        return row

    def until(self, look: int, row: Row, judge: Judgement, iterates: bool, budget: Budget) -> Row:
        """The row of the next look; ``row`` is that of the last."""
        try:
            self._seal.between()
            self._go(look)
            own, last = own_figures(self._solver, self.state), self._ends(budget)
            return judged(look, self.state, self._problem, self._tally, judge, self._watch, iterates, last, own)
        except BaseException as error:
            return failed(row, error)

    def used(self) -> Used:
        """What the solver has used so far."""
        counts = self._tally.read()
        return Used(self._watch.seconds, total(meters.calls(counts)), total(meters.rows(counts)))

    def _ends(self, budget: Budget) -> bool:
        return bool(budget.spent(self.step, self.used(), self.init))

    def _go(self, look: int) -> None:
        solver, oracle, shot, state = self._solver, self._oracle, self._tally.shot, self.state
        begin, end = self._marks.within(self.step, look) if self._marks else (self.step, self.step)
        _, stretch, turn, untouched, hold = self._kept
        turn(STEPS)
        try:
            before = stretch(solver, oracle, state, self.step, begin)
            at_begin = shot()
            after = stretch(solver, oracle, before, begin, end)
            at_end = shot()
            self.state = stretch(solver, oracle, after, end, look)
        finally:
            turn(OVERHEAD)
        stopped = shot()
        hold(untouched(), stopped)
        self.step = look
        if self._marks:
            self._marks.write(begin, end, before, after, (at_begin, at_end))


def judged(
    step: int, state: State, problem: Problem, tally: Tally, judge: Judgement, watch: Stopwatch, iterates: bool,
    last: bool, own: Mapping[str, float],
) -> Row:  # fmt: skip
    """The row of a look, or ``AtLook`` with what went wrong."""
    counts = tally.read()
    calls, rows = meters.calls(counts), meters.rows(counts)
    row = Row(step, watch.seconds, watch.cpu_seconds, _sorted(calls), total(calls), _sorted(rows))
    row.passes, row.kept = _sorted(meters.passes(counts)), _sorted(meters.kept(counts))
    try:
        _check(state, problem)
        with watch.account(JUDGE):
            metrics = _judgement(judge, state, step, last)
        row.metrics, row.unjudged = {**metrics, **own}, getattr(judge, "unjudged", "")
        if not all(torch.isfinite(torch.tensor(metrics[name])) for name in ("phi", "f") if name in metrics):
            raise Diverged("Phi or f is not finite")
    except BaseException as error:
        raise AtLook(row, error) from error
    finally:
        row.judge_seconds, row.overhead_seconds = watch.accounts[JUDGE], watch.accounts[OVERHEAD]
        row.compile_seconds = watch.accounts.get(COMPILE)
    if iterates:
        row.x, row.y = state.x.tolist(), state.y.tolist()
    return row


def own_figures(solver: Solver, state: Any) -> dict[str, float]:
    """What a solver shows of its state, such as ``state.gamma``; read at looks, outside the clock."""
    figures = getattr(solver, "figures", None)
    return {f"state.{name}": float(value) for name, value in figures(state).items()} if figures else {}


def _judgement(judge: Judgement, state: State, step: int, last: bool) -> dict[str, float]:
    try:
        return judge(state.x, state.y, step, last)
    except BaseException as error:
        if not hasattr(error, "fault"):
            error.fault = "problem"  # type: ignore[attr-defined]
        raise


def _check(state: State, problem: Problem) -> None:
    for name, first in (("x", problem.x0), ("y", problem.y0)):
        now = getattr(state, name)
        if now.shape != first.shape or now.dtype != first.dtype or now.device != first.device:
            raise ValueError(f"the state's {name} became {_kind(now)}; it started as {_kind(first)}")
        if now.requires_grad:
            raise ValueError(f"the state's {name} carries a graph; a step returns detached tensors")
        if not bool(torch.isfinite(now).all()):
            raise Diverged(f"{name} is not finite")
    pack(state)  # refuses what could not be made again


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} on {tensor.device}"


def _sorted(counter: Any) -> dict[str, int]:
    return {kind: int(n) for kind, n in sorted(counter.items())}


def warm_up(
    problem: Problem, solver: Solver, seed: int, wait: Callable[[], None], derivatives: Derivatives = derive
) -> float:
    """Two steps on throw-away objects; the seconds of the first, the solver's start and any compilation included.

    The same for every solver, and never in a curve. A step that changes the state it is given is found here: what it
    did to the problem's start or to the rows already written could not be undone.
    """
    hook.install()
    begin = time.perf_counter()
    if derivatives in (derive, functional):  # an engine that compiles what it is asked must be asked the same again
        problem = metered(problem, Meter())
    oracle = Oracle(problem, seed, derivatives)
    state = start(solver, problem, oracle)
    given = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    kept = [leaf.clone() for leaf in given]
    state = stretch(solver, oracle, state, 0, 1)
    wait()
    first = time.perf_counter() - begin
    stretch(solver, oracle, state, 1, 2)
    wait()
    if any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(given, kept, strict=True)):
        raise Impure("the step changes the state that it is given; it must return a new one")
    return first
