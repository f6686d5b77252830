"""The one loop: step to the next look, stop the clock, judge, hand out a row."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bilevelbench.core import derive
from bilevelbench.core.derive import Derivatives
from bilevelbench.core.door import total
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, State, start
from bilevelbench.store.schema import Row

from .budget import Budget, looks
from .clock import COMPILE, JUDGE, OVERHEAD, Stopwatch

Judgement = Callable[[Tensor, Tensor], dict[str, float]]


class Impure(Exception):
    """A step changed the state that it was given."""


class Diverged(Exception):
    """The iterate, or Phi at it, is not finite."""


def trace(
    problem: Problem, solver: Solver, seed: int, budget: Budget, judge: Judgement, watch: Stopwatch, iterates: bool,
    derivatives: Derivatives = derive,
) -> Iterator[Row]:  # fmt: skip
    """Run a solver on a problem and yield one row per look; the last row has a final status.

    Between the two readings of the clock there is nothing but steps. Whatever goes wrong ends the run in a row.
    """
    oracle = Oracle(problem, seed, derivatives)
    row = Row(0)
    try:
        state = start(solver, problem, oracle)
        row = judged(0, state, problem, oracle, judge, watch, iterates)
        schedule, step, ended_by = looks(), 0, budget.spent(0, 0.0, 0)
        while not ended_by:
            yield row
            calls = total(oracle.calls)
            look = min(next(schedule), step + budget.room(step, watch.seconds, calls))
            watch.start()
            for k in range(step, look):
                oracle.begin(k)
                state = solver.step(oracle, state)
            watch.stop()
            step = look
            row = judged(step, state, problem, oracle, judge, watch, iterates)
            ended_by = budget.spent(step, watch.seconds, total(oracle.calls))
        row.status, row.ended_by = "done", ended_by
    except Exception as error:
        row = failed(row, error)
    yield row


def judged(
    step: int, state: State, problem: Problem, oracle: Oracle, judge: Judgement, watch: Stopwatch, iterates: bool
) -> Row:
    """The row of a look, or ``_AtLook`` with what went wrong."""
    row = Row(step, watch.seconds, watch.cpu_seconds, _sorted(oracle.calls), total(oracle.calls), _sorted(oracle.rows))
    try:
        _check(state, problem)
        with watch.account(JUDGE):
            metrics = judge(state.x, state.y)
        row.metrics = dict(metrics)
        if not all(torch.isfinite(torch.tensor(metrics[name])) for name in ("phi", "f") if name in metrics):
            raise Diverged("Phi or f is not finite")
    except Exception as error:
        raise _AtLook(row, error) from error
    finally:
        row.judge_seconds, row.overhead_seconds = watch.accounts[JUDGE], watch.accounts[OVERHEAD]
        row.compile_seconds = watch.accounts.get(COMPILE)
    if iterates:
        row.x, row.y = state.x.tolist(), state.y.tolist()
    return row


class _AtLook(Exception):
    """What went wrong when a look was judged, with the row so far."""

    def __init__(self, row: Row, error: Exception) -> None:
        super().__init__(str(error))
        self.row, self.error = row, error


def failed(last: Row, error: Exception) -> Row:
    """The row that ends a failed run: at the look where it failed, or at the last good one."""
    row = Row(**{**vars(last), "metrics": {}, "x": None, "y": None, "memory": None})
    if isinstance(error, _AtLook):
        row, error = error.row, error.error
    row.status = status_of(error)
    row.reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if row.status == "error":
        row.traceback = "".join(traceback.format_exception(error))
    return row


def broken(error: Exception) -> Row:
    """The only row of a run that could not begin."""
    status, reason = status_of(error), str(error).strip().partition("\n")[0][:300] or type(error).__name__
    story = "" if status == "unsupported" else "".join(traceback.format_exception(error))
    return Row(0, status=status, reason=reason, traceback=story)


def status_of(error: BaseException) -> str:
    """The final status that an exception stands for."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Unsupported):
        return "unsupported"
    words = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words:
        return "oom"
    return "error"


def _check(state: State, problem: Problem) -> None:
    for name, first in (("x", problem.x0), ("y", problem.y0)):
        now = getattr(state, name)
        if now.shape != first.shape or now.dtype != first.dtype or now.device != first.device:
            raise ValueError(f"the state's {name} became {_kind(now)}; it started as {_kind(first)}")
        if now.requires_grad:
            raise ValueError(f"the state's {name} carries a graph; a step returns detached tensors")
        if not bool(torch.isfinite(now).all()):
            raise Diverged(f"{name} is not finite")


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
    begin = time.perf_counter()
    oracle = Oracle(problem, seed, derivatives)
    state = start(solver, problem, oracle)
    given = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    kept = [leaf.clone() for leaf in given]
    oracle.begin(0)
    state = solver.step(oracle, state)
    wait()
    first = time.perf_counter() - begin
    oracle.begin(1)
    solver.step(oracle, state)
    wait()
    if any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(given, kept, strict=True)):
        raise Impure("the step changes the state that it is given; it must return a new one")
    return first
