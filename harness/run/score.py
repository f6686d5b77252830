"""What a configuration is worth on one instance: the share of targets that it holds, then what they cost.

A process of its own makes these runs, one after another and without the audit that the runs of a suite have: they
choose step sizes, and what is chosen is then run and audited.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, knobs, make_solver, resolve
from bilevelbench.core.solver import require
from bilevelbench.core.space import COMMON, Axis
from bilevelbench.core.spec import parse
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.env import source_digest
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import EACH, Plan, planned
from bilevelbench.measure.trace import trace
from bilevelbench.store.aims import DECADES, HALF, NOTHING, REACHED, SLACK
from bilevelbench.store.aims import aims as goals_of
from bilevelbench.store.schema import Row

POWER = 20  # iterations that the largest curvature is estimated by
SMALL = 1e-4  # length of a difference of gradients, relative to y
LOOKS = 12  # about as many as steps double in a run
CROSSED = 20  # steps in which a lower level without curvature is crossed


Goal = tuple[float, str, str]  # value, which way is better, target or bar


class Aim(NamedTuple):
    """A target: what is left of the way at each look as a share of that from the start, how near is near enough, and
    above what it is no longer held. A bar is to be beaten, not met."""

    left: list[float]
    near: float
    slack: float
    strict: bool = False


def cost(aim: Aim, spent: Sequence[float]) -> float:
    """What the first look cost from which on the target is held; infinity where it is not."""
    found = math.inf
    for left, price in zip(aim.left, spent, strict=True):
        if math.isnan(left):  # could not be judged
            continue
        if left > aim.slack:
            found = math.inf
        elif left < aim.near or (left == aim.near and not aim.strict):
            found = min(found, price)
    return found


def aims(rows: Sequence[Mapping[str, float | None]], goals: Mapping[str, Goal]) -> list[Aim]:
    """The targets of a run with the metrics of its looks, but for those that take a reference. ``goals``: of the
    problem's own figures, as ``store.aims`` has them."""
    made = []
    for measure in ("phi_gap", "distance"):
        start, scale = rows[0].get(measure), abs(rows[0].get("phi") or 1.0) if measure == "phi_gap" else 1.0
        if start is not None and start > REACHED * scale:
            left = [_share(row.get(measure), start, 0.0) for row in rows]
            made = [Aim(left, 10.0**-k, SLACK * 10.0**-k) for k in DECADES[measure]]
            break
    for figure, (goal, better, kind) in goals.items():
        start = rows[0].get(figure)
        if start is not None and (goal > start if better == "higher" else goal < start):
            made.append(Aim([_share(row.get(figure), start, goal) for row in rows], 0.0, HALF, kind == "bar"))
    return made


def _share(value: float | None, start: float, goal: float) -> float:
    if value is None:
        return math.nan
    share = (value - goal) / (start - goal)
    return share if math.isfinite(share) else math.inf


def goals(problem: Problem) -> dict[str, Goal]:
    """The problem's own figures that are to be reached: the hardest line of its bar, and its targets."""
    said = {"better": problem.better, "target": problem.target, "bar": problem.bar._asdict() if problem.bar else None}
    return goals_of({**said, "references": problem.references() if problem.references else {}})


@functools.lru_cache(4)
def _instance(text: str, seed: int) -> tuple[Problem, dict[str, Goal]]:
    made = build_problem(text, Draw(seed))
    return made, goals(made)


def outcome(problem: str, solver: str, seed: int, limits: Mapping[str, int]) -> dict[str, Any]:
    """A run's ``score`` from 0, the worst, to 1; ``share`` of targets held and their geometric-mean ``cost``; status;
    CPU seconds.

    A target more is worth more than any saving. Where none is held the score says how far the first one was, so that a
    search has a direction; where a problem sets none it says how much of Phi is gone. What failed scores 0.
    """
    torch.set_num_threads(1)
    begun = time.process_time()
    made, own = _instance(problem, seed)
    budget = Budget(**limits, steps=max(limits.values()))  # for a solver that asks nothing
    judge = Judge(made, _at_doublings(planned(made, budget)))
    try:
        with_ = make_solver(solver)
    except RequestError:  # a value of its space that the solver does not take
        return {"score": 0.0, "share": 0.0, "cost": math.inf, "status": "error", "cpu": 0.0}
    rows = list(trace(made, with_, seed, budget, judge, Stopwatch(lambda: None), False))
    status = rows[-1].status
    found = {"score": 0.0, "share": 0.0, "cost": math.inf} if status in NOTHING else _worth(rows, own, budget)
    return {**found, "status": status, "cpu": time.process_time() - begun}


def _at_doublings(plan: Plan) -> Plan:
    """Phi judged at doublings of the steps alone where y* is solved for: that would cost more than the steps."""
    return (
        replace(plan, sparse=True, gradients=EACH * LOOKS, looks=LOOKS) if plan.gradients and not plan.sparse else plan
    )


def _worth(rows: list[Row], own: Mapping[str, Goal], budget: Budget) -> dict[str, float]:
    judged = [row for row in rows if "phi" in row.metrics or not row.metrics.keys() & {"phi", "phi_gap"}]
    metrics = [row.metrics for row in judged]
    spent = [float(sum(row.rows.values()) if budget.rows else row.total_calls) or 1.0 for row in judged]
    all_ = aims(metrics, own)
    held = [price for aim in all_ if (price := cost(aim, spent)) < math.inf]
    if not held:
        ends = [[left for left in aim.left if not math.isnan(left)][-2:] for aim in all_]
        left = min(map(max, filter(None, ends)), default=1.0) if all_ else _phi_left(metrics)
        return {"score": max(0.0, 1.0 - left) / (len(all_) + 1), "share": 0.0, "cost": math.inf}
    mean = math.exp(sum(map(math.log, held)) / len(held))
    most = float(budget.rows or budget.calls or max(spent))
    saved = max(0.0, 1.0 - math.log(mean) / math.log(max(most, math.e)))
    return {"score": (len(held) + saved) / (len(all_) + 1), "share": len(held) / len(all_), "cost": mean}


def _phi_left(metrics: Sequence[Mapping[str, float | None]]) -> float:
    """Where no target is set: Phi at the end as a share of that of the start, both moved so that less is better."""
    values = [value for row in metrics if (value := row.get("phi")) is not None]
    if len(values) < 2:
        return 1.0
    return 1.0 - (values[0] - max(values[-2:])) / (abs(values[0]) + abs(values[-1]) or 1.0)


def survey(problem: str, solver: str, seed: int) -> dict[str, Any]:
    """The ``axes`` along which a solver is tuned on a problem (see ``lattice.Grid``) and knobs that are ``fixed``, or
    why it is ``unsupported``; and the digest of the ``code`` that scores hang on. Knobs that are given are kept."""
    torch.set_num_threads(1)
    entry, _ = resolve(SOLVERS, solver)
    of_problem, _ = resolve(PROBLEMS, problem)
    code = source_digest(of_problem.file, entry.file, rooms=("core", "data"))
    made_solver = make_solver(solver)
    try:
        made, _ = _instance(problem, seed)
        require(made_solver, made)
        step, curvature = scales(made)
    except Unsupported as reason:
        return {"axes": [], "fixed": {}, "unsupported": str(reason), "code": code}
    except RequestError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise RequestError(f"{problem} cannot be tuned on: {said}; `bilevelbench check` says more") from None
    space: dict[str, Axis | None] = {"lr": COMMON["lr"]._replace(start=step), **made_solver.space}
    space |= {name: axis for name, axis in COMMON.items() if name not in space}
    known, low = knobs(entry), getattr(entry.make, "at_least", {})
    given = parse(solver).arguments
    axes, fixed = [], {}
    for name, axis in space.items():
        if axis is None or name not in known or name in given:
            continue
        whole = known[name][0] is int
        start = axis.start / curvature**axis.curvature
        if axis.ratio > 1 and made_solver.certificate != "still":  # of that no setting is better than another
            axes.append((name, float(f"{start:.3g}"), axis.ratio, whole, float(low.get(name, int(whole))), axis.unset))
        else:
            fixed[name] = round(start) if whole else float(f"{start:.3g}")
    return {"axes": axes, "fixed": fixed, "unsupported": "", "code": code}


def scales(problem: Problem) -> tuple[float, float]:
    """The step on x that moves it by its own size (at least 1 a variable) along the hypergradient at the start; and the
    largest curvature of g(x, .) there, or what takes its place where g has none: the slope over a part of y's size."""
    x, y = problem.x0, problem.y0
    curvature = _curvature(problem, x, y)
    found = Judge(problem)(x, y)
    slope = found.get("grad_phi") or float(derive.grad_x(problem.f, x, y).norm())
    size = math.sqrt(x.numel()) * max(1.0, float(x.square().mean().sqrt()))
    step = size / slope if 0 < slope < math.inf else 1.0
    return float(f"{min(1e12, max(1e-12, step)):.3g}"), curvature


def _curvature(problem: Problem, x: Tensor, y: Tensor) -> float:
    g, size = problem.g, max(1.0, float(y.norm()))
    slope = derive.grad_y(g, x, y)
    v, found = torch.ones_like(y), 0.0
    for _ in range(POWER):
        v = v / v.norm()
        v = (derive.grad_y(g, x, y + SMALL * size * v) - slope) / (SMALL * size)
        found = float(v.norm())
        if not 0 < found < math.inf:
            break
    if not 1e-9 < found < math.inf:
        found = CROSSED * float(slope.norm()) / size
    return float(f"{found:.3g}") if 1e-12 < found < math.inf else 1.0
