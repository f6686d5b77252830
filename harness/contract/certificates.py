"""Certificates: what a solver says of its limit on a quadratic, and whether it ends there.

A solver's ``certificate`` is the name of a claim below; what a claim depends on is read from the solver's knobs
(``lr_inner``, ``T``, ``K``, ...). ``certified`` holds knobs under which the limit is reached in a few thousand steps.
W(M) is the root of df/dx + B'M df/dy at y*(x), the limit of a method that uses M in place of A^-1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS as REGISTRY
from bilevelbench.core.resolve import knobs, make_solver, resolve
from bilevelbench.core.solver import Solver, require, start

from .enumerate import mean
from .theory import Quadratic, quadratic

SIZES = ((3, 4, 4.0), (2, 1, 1.0), (4, 6, 20.0))  # upper and lower variables, condition number of the lower level
CLOSE = 1e-6  # how near to its limit a solver has to end
STEPS = 20000
DRAWS = 4000  # runs of one step, where a claim is about the mean of a random direction


class Claim(NamedTuple):
    """words: the limit, for people. limit: its x. how: "limit", "floor" (within O(lr)), "mean", "every" or "rule".

    "mean" and "every" are about the first direction: its mean over many runs, and over every outcome of what is drawn.
    """

    words: str
    limit: Callable[[Quadratic, Any], Tensor]
    how: str = "limit"


def _first(s: Any, *names: str) -> Any:
    """The first of these knobs that the solver has and that is set."""
    values = [value for name in names if (value := getattr(s, name, None)) is not None]
    if not values:
        raise AssertionError(f"its certificate needs one of the knobs {', '.join(names)}")
    return values[0]


def _truncated(q: Quadratic, s: Any) -> Tensor:
    return q.truncated(s.lr_inner, s.T)


def _series(q: Quadratic, s: Any) -> Tensor:
    return q.truncated(_first(s, "lr_linear", "lr_inner"), s.K)


def _weights(s: Any) -> list[tuple[float, float]]:
    """What the lower steps of descent aggregation take of df/dy and of dg/dy."""
    mixed = [s.mix / (t + 1) ** s.fade for t in range(s.T)]
    return [(a * _first(s, "lr_upper", "lr_inner"), (1 - a) * s.lr_inner) for a in mixed]


CLAIMS = {
    "exact": Claim("x*", lambda q, s: q.x_star),
    "unrolled": Claim("W(A^-1 (I - E^T)), E = I - lr_inner A", lambda q, s: q.W(_truncated(q, s))),
    "cold": Claim("argmin f(x, y_T(x)), y_T from T steps at y0", lambda q, s: q.cold(s.lr_inner, s.T)),
    "cold_cut": Claim(
        "where df/dx + B'A^-1 (I - E^K) df/dy vanishes at y_T(x), y_T from T steps at y0",
        lambda q, s: q.cold_cut(s.lr_inner, s.T, s.K),
    ),
    "aggregated": Claim(
        "argmin f(x, y_T(x)), y_T from T steps at y0 along a_t df/dy + (1 - a_t) dg/dy, a_t = mix (t + 1)^-fade",
        lambda q, s: q.aggregated(_weights(s)),
    ),
    "pessimistic": Claim(
        "argmin of max_t f(x, y_t), t = 1..T, over x and the start of the lower loop",
        lambda q, s: q.pessimistic(s.lr_inner, s.T, s.lr_z != 0),
    ),
    "neumann": Claim("W(A^-1 (I - (I - lr_linear A)^K))", lambda q, s: q.W(_series(q, s))),
    "identity": Claim(
        "W(scale I)", lambda q, s: q.W(float(_first(s, "scale", "lr_inner")) * torch.eye(len(q.A)).double())
    ),
    "shifted": Claim(
        "W((A + rho I)^-1)",
        lambda q, s: q.W(torch.linalg.inv(q.A + float(_first(s, "rho", "damping")) * torch.eye(len(q.A)).double())),
    ),
    "direct": Claim("W(0), where df/dx vanishes along y*(x)", lambda q, s: q.W(torch.zeros_like(q.A))),
    "penalty": Claim(
        "argmin f + c (g - min g), c = lam or gamma: x* within O(1/c)",
        lambda q, s: q.penalised(q.A, _first(s, "lam", "gamma")),
    ),
    "penalty2": Claim("root of the central difference in 1/lam: x* within O(1/lam^2)", lambda q, s: q.central(s.lam)),
    "gradient_penalty": Claim(
        "argmin f + gamma/2 |dg/dy|^2: x* within O(1/gamma)", lambda q, s: q.penalised(q.A @ q.A, s.gamma)
    ),
    "moreau": Claim(
        "argmin f + c (g - its Moreau envelope), c = c or lam, tau = gamma: x* within O(1/c)",
        lambda q, s: q.penalised(q.moreau(s.gamma), _first(s, "c", "lam")),
    ),
    "value_penalty": Claim(
        "where f and sigma/2 times the squared value gap are stationary, mu and theta regularising z and y: "
        "x* as sigma grows and they fall",
        lambda q, s: q.value_penalised(s.sigma, s.mu, s.theta),
    ),
    "direct_penalty": Claim(
        "where df/dx vanishes along argmin f/gamma + g: W(0) within O(1/gamma)", lambda q, s: q.direct(s.gamma)
    ),
    "helped": Claim("where Penalty ends at fixed gamma and lam", lambda q, s: q.helped(s.gamma, s.lam)),
    "truncated": Claim(
        "W(A^-1 (I - E^T)) within O(lr), E = I - lr_inner A", lambda q, s: q.W(_truncated(q, s)), "floor"
    ),
    "exact_floor": Claim("x* within O(lr)", lambda q, s: q.x_star, "floor"),
    "unrolled_mean": Claim(
        "the mean of its direction is the gradient of f(x, y_T(x))", lambda q, s: q.unrolled(s.lr_inner, s.T), "mean"
    ),
    "neumann_mean": Claim(
        "the mean of its direction is the Neumann series of K terms at y_T",
        lambda q, s: q.series(s.lr_inner, s.T, _first(s, "lr_linear", "lr_inner"), s.K),
        "every",
    ),
    "columns": Claim(
        "W((C W^-1 C' + rho I)^-1), C the K chosen columns of A, W the chosen rows of C",
        lambda q, s: q.W(q.columns(s.init(Oracle(q.problem, 0), q.problem.x0, q.problem.y0).S.tolist(), s.rho)),
    ),
    "columns_mean": Claim(
        "the mean of its direction is that of df/dx + B'(C W^-1 C' + rho I)^-1 df/dy at y_T over all K columns of A",
        lambda q, s: q.mean_of_columns(s.lr_inner, s.T, s.K, s.rho),
        "every",
    ),
    "adapted": Claim(
        "its direction is df/dx + B'D df/dy at y_T from T steps of Adam, D the derivative of the last in its gradient",
        lambda q, s: q.adapted(s.lr_inner, s.T, s.beta),
        "every",
    ),
    "averaged": Claim(
        "argmin f(x, y(x)), y(x) that of mu f + (1 - mu) g: x* within O(mu)",
        lambda q, s: q.averaged(s.mu),
    ),
    "still": Claim("x0: x never moves", lambda q, s: q.problem.x0),
    "descent": Claim("none: f(x, y_T(x)) at its best sample never rises", lambda q, s: q.x_star, "rule"),
    "none": Claim("none", lambda q, s: q.x_star, "rule"),
}


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
