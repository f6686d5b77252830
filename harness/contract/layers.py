"""What a step of a solver costs, in four layers. A layer measures what no other layer does, when it is asked for."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Solver, require
from bilevelbench.measure.counts import counts, operations, work_done
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import Ratio, step_over_floor, steps_of

from .cost import asked
from .found import SIZES, separable
from .quadratic import finite_sum, quadratic

STEPS = 3
LAYERS = ("calls", "operations", "bytes", "floor")
ON = " on "  # "bome on my_problem.py": a solver on a problem that is not the gate's own
# Of each layer, what does not depend on the versions of torch and Python, and what does.
LASTING = {
    "calls": ("calls", "passes", "evaluations"), "operations": ("own_operations", "operations_power"),
    "bytes": ("own_bytes", "growth_bytes", "copies", "exponent"), "floor": ("ratio",),
}  # fmt: skip
VERSIONED = {
    "calls": ("iterates",), "operations": ("operations", "python_calls", "iterates"), "bytes": ("bytes", "iterates"),
    "floor": (),
}  # fmt: skip
SURE = 0.9  # of the limit of a ratio, up to which one look is enough
LOOKS = 3  # at a ratio that is above it: their median decides


def problem_of(name: str) -> Problem:
    """What a solver is measured on: a quadratic that is a finite sum, so that every solver has its way with it, or the
    problem behind `` on ``."""
    _, on, problem = name.partition(ON)
    return build_problem(problem, Draw(0)) if on else finite_sum(quadratic())


def solver_of(name: str) -> Solver:
    """The solver of such a name."""
    return make_solver(name.partition(ON)[0])


def measure(solver: Solver, layer: str, p: Problem, limit: float = math.inf) -> dict[str, Any]:
    """What a baseline holds of a solver for one layer. ``limit``: of the ratio, near which it is looked at again."""
    if layer == "calls":
        return {
            "calls": dict(sorted(sum(asked(solver, p, STEPS), Counter[str]()).items())),
            **work_done(p, solver, STEPS),
        }
    if layer == "operations":
        return {**counts(p, solver, STEPS), "iterates": _iterates(p, solver), **_powers(solver, "operations")}
    if layer == "bytes":
        held = peak(p, solver)
        own = {"own_bytes": held["solver_bytes"], "bytes": held["peak_bytes"], "growth_bytes": held["growth_bytes"]}
        return own | {"iterates": _iterates(p, solver), **_powers(solver, "bytes")}
    looks = [step_over_floor(p, solver)]
    while looks[0].median > SURE * limit and len(looks) < LOOKS:
        looks.append(step_over_floor(p, solver))
    return {"ratio": middle(looks)}


@contextlib.contextmanager
def measuring(name: str) -> Iterator[None]:
    """What a solver or its problem raises while it is measured, as one sentence that names it."""
    try:
        yield
    except (RequestError, Unsupported, AssertionError):
        raise
    except Exception as error:
        words = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"{name} cannot be measured ({type(error).__name__}: {words}); `bilevelbench check` shows where"
        ) from error


def _iterates(p: Problem, solver: Solver) -> str:
    return str(work_done(p, solver, STEPS)["iterates"])


def middle(looks: Sequence[Ratio]) -> Ratio:
    """Several looks at a ratio as one: the median of medians; one look keeps its own interval."""
    if len(looks) == 1:
        return looks[0]
    medians = [one.median for one in looks]
    return Ratio(statistics.median(medians), min(medians), max(medians))


def _powers(solver: Solver, what: str) -> dict[str, float]:
    """How a step grows with n where x and y have n entries each: exponents between two sizes, and copies of y that are
    held at the larger. Nothing where the solver does not take such a problem."""
    try:
        require(solver, separable(SIZES[1]))
    except Unsupported:
        return {}
    (calls,) = asked(solver, separable(SIZES[1]), 1)
    small, large = SIZES[1], SIZES[2] if total(calls) < SIZES[1] else SIZES[2] // 4  # a step that asks n times is slow

    def power(values: Sequence[float]) -> float:
        return round(math.log(values[1] / values[0]) / math.log(large / small), 1) + 0.0

    if what == "operations":
        return {
            "operations_power": power([operations(steps_of(separable(n), solver, 1)).total() for n in (small, large)])
        }
    held = [peak(separable(n), solver, steps=2)["peak_bytes"] for n in (small, large)]
    return {"copies": round(held[1] / (8 * large), 1), "exponent": power(held)}
