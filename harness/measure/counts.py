"""Exact counts of a solver's first steps, the same on every machine: what seconds can only hint at.

Operations of torch catch work done behind the oracle's back; Python calls catch what torch does not see.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver

from .memory import without_dynamo
from .prices import answer, questions
from .ratio import steps_of


@without_dynamo
class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the operations that torch carries out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> int:
    """How many operations torch carries out."""
    mode = Operations()
    with mode:
        work()
    return mode.count


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


def counts(problem: Problem, solver: Solver, steps: int) -> dict[str, int]:
    """Of the first steps: operations, own_operations (those beyond the answers asked for) and python_calls.

    own_operations are the solver's own lines: they do not depend on how a version of torch differentiates.
    """
    work = steps_of(problem, solver, steps)
    asked, _ = questions(problem, solver, steps)
    all_ = operations(work)
    return {
        "operations": all_,
        "own_operations": all_ - operations(lambda: answer(problem, asked)),
        "python_calls": python_calls(work),
    }
