"""Exact counts of a solver's first steps, the same on every machine: what seconds can only hint at.

Operations of torch catch work done behind the oracle's back; Python calls catch what torch does not see; evaluations of
f and g are what the problem itself was asked, by whomever.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from bilevelbench.core.meter import Meter, metered
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start

from .memory import without_dynamo
from .prices import answer, questions
from .ratio import steps_of


@without_dynamo
class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the operations that torch carries out, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(func).removeprefix("aten.")] += 1
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> Counter[str]:
    """Which operations torch carries out, and how often."""
    mode = Operations()
    with mode:
        work()
    return mode.seen


def python_calls(work: Callable[[], object]) -> int:
    """How many calls Python makes, of its own functions and of those in C; after a first time, which fills caches."""
    work()
    seen = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return seen


def counts(problem: Problem, solver: Solver, steps: int) -> dict[str, Any]:
    """Of the first steps: operations by name, own_operations (how many beyond the answers asked for), python_calls.

    own_operations are the solver's own lines: they do not depend on how a version of torch differentiates.
    """
    work = steps_of(problem, solver, steps)
    asked, _ = questions(problem, solver, steps)
    all_ = operations(work)
    return {
        "operations": dict(sorted(all_.items())),
        "own_operations": all_.total() - operations(lambda: answer(problem, asked)).total(),
        "python_calls": python_calls(work),
    }


def work_done(problem: Problem, solver: Solver, steps: int) -> dict[str, Any]:
    """Of the first steps: passes as the oracle books them, evaluations of f and g as the problem does, and a digest of
    the iterates, equal where they are equal to the bit."""
    meter, digest = Meter(), hashlib.sha256()
    oracle = Oracle(metered(problem, meter), 0)
    state = start(solver, problem, oracle)
    for k in range(steps):
        oracle.begin(k)
        state = solver.step(oracle, state)
        for point in (state.x, state.y):
            digest.update(point.detach().cpu().numpy().tobytes())
    evaluations: Counter[str] = Counter()
    for (name, _), n in meter.read().items():
        evaluations[name] += n
    return {
        "passes": dict(sorted(oracle.passes.items())), "evaluations": dict(sorted(evaluations.items())),
        "iterates": digest.hexdigest()[:16],
    }  # fmt: skip
