"""Certificates: whether a solver ends on a quadratic where its claim says.

``certified`` of a solver holds knobs under which the limit is reached in a few thousand steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS as REGISTRY
from bilevelbench.core.resolve import knobs, make_solver, resolve
from bilevelbench.core.solver import Solver, require, start

from .claims import CLAIMS, Claim
from .enumerate import mean
from .quadratic import Quadratic, quadratic

SIZES = ((3, 4, 4.0), (2, 1, 1.0), (4, 6, 20.0))  # upper and lower variables, condition number of the lower level
CLOSE = 1e-6  # how near to its limit a solver has to end
STEPS = 20000
DRAWS = 4000  # runs of one step, where a claim is about the mean of a random direction


class Finding(NamedTuple):
    """What was found under one setting on one size: a distance, the distance allowed, and what they are of."""

    setting: str
    size: tuple[int, int, float]
    found: float
    allowed: float
    words: str


def run(solver: Solver, problem: Problem, steps: int, state: Any = None, tolerance: float = 0.0) -> Any:
    """The state after some steps, or earlier once x and y move less than the tolerance."""
    oracle = Oracle(problem, 0)
    state = start(solver, problem, oracle) if state is None else state
    for k in range(steps):
        oracle.begin(k)
        before, state = state, solver.step(oracle, state)
        if tolerance and all(float((a - b).abs().max()) < tolerance for a, b in _pairs(before, state)):
            break
    return state


def _pairs(one: Any, other: Any) -> tuple[tuple[Tensor, Tensor], ...]:
    return (one.x, other.x), (one.y, other.y)


def settings(target: str) -> list[str]:
    """The specs under which a solver is certified: its own choice, or the target as it stands."""
    entry, spec = resolve(REGISTRY, target)
    given = entry.make(**spec.arguments)
    default = {name: value for name, (_, value) in knobs(entry).items()}
    if spec.arguments != default or not given.certified:
        return [target]
    return [f"{target.partition('(')[0]}({text})" for text in given.certified]


def findings(target: str) -> Iterator[Finding]:
    """Every setting on every size. Raises ``Unsupported`` where the solver claims nothing that could be checked."""
    for text in settings(target):
        solver = make_solver(text)
        if not solver.certificate:
            raise Unsupported("it claims no certificate")
        if solver.certificate not in CLAIMS:
            raise AssertionError(f"claims {solver.certificate!r}, which is none of {', '.join(sorted(CLAIMS))}")
        claim = CLAIMS[solver.certificate]
        if claim.how == "rule":
            continue
        for size in SIZES if claim.how == "limit" else SIZES[:1]:
            q = quadratic(*size)
            require(solver, q.problem)
            yield Finding(text, size, *_HOW[claim.how](solver, q, claim), claim.words)


def _limit(solver: Solver, q: Quadratic, claim: Claim) -> tuple[float, float]:
    end = run(solver, q.problem, STEPS, tolerance=1e-11)
    return float((end.x - claim.limit(q, solver)).norm()), CLOSE


# Down to the smaller floor by way of a middle one: y follows the barrier slowly, in time measured by the sum of steps.
LADDER = ((1e-2, 2400), (3e-3, 2500), (1e-3, 7000))


def _floor(solver: Any, q: Quadratic, claim: Claim) -> tuple[float, float]:
    """The distance from the limit at the smallest lr, in tenths of the distance at ten times this lr; 1 is O(lr)."""
    state, distance = None, []
    for lr, steps in LADDER:
        state = run(dataclasses.replace(solver, lr=lr), q.problem, steps, state)
        distance.append(float((state.x - claim.limit(q, solver)).norm()))
    near = distance[0] < 0.02
    return (abs(10 * distance[-1] / distance[0] - 1) if near else math.inf), 0.15


def _mean(solver: Any, q: Quadratic, claim: Claim) -> tuple[float, float]:
    """How many standard errors the mean of the first direction is from what is claimed, in the worst coordinate."""
    problem, seen = q.problem, []
    for seed in range(DRAWS):
        oracle = Oracle(problem, seed)
        state = start(solver, problem, oracle)
        oracle.begin(0)
        seen.append((state.x - solver.step(oracle, state).x) / solver.lr)
    all_ = torch.stack(seen)
    error = all_.std(0) / DRAWS**0.5
    expected = claim.limit(q, solver)
    assert float(error.norm()) < 0.1 * float(expected.norm()), "too noisy for its mean to say anything"
    return float(((all_.mean(0) - expected).abs() / error).max()), 5.0


def _every(solver: Any, q: Quadratic, claim: Claim) -> tuple[float, float]:
    """The distance of the first direction's mean from what is claimed, over all that may be drawn."""
    at = mean(solver, q.problem, lambda state: state.x)
    return float(((q.problem.x0 - at) / solver.lr - claim.limit(q, solver)).norm()), CLOSE


_HOW = {"limit": _limit, "floor": _floor, "mean": _mean, "every": _every}


def certificate_holds(target: str) -> str:
    """The solver ends where it claims to end, on quadratics of several sizes and condition numbers."""
    worst: Finding | None = None
    for finding in findings(target):
        nx, ny, kappa = finding.size
        where = f"{finding.setting}, {nx} + {ny} variables, condition number {kappa:g}"
        assert finding.found <= finding.allowed, (
            f"claims {make_solver(finding.setting).certificate!r} ({finding.words}), "
            f"and is {finding.found:.2g} away where {finding.allowed:g} is allowed: {where}"
        )
        if worst is None or finding.found > worst.found:
            worst = finding
    claimed = make_solver(settings(target)[0]).certificate
    if worst is None:
        return f"claims {claimed!r}: {CLAIMS[claimed].words}"
    return (
        f"claims {claimed!r} ({CLAIMS[claimed].words}); found {worst.found:.1e} away at most, {worst.allowed:g} allowed"
    )
