"""What a configuration is worth on one instance: the share of targets that it holds, then what they cost.

A process of its own makes these runs, one after another and without the audit that the runs of a suite have: they
choose step sizes, and what is chosen is then run and audited.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import time
from collections.abc import Mapping
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
from bilevelbench.measure.guards import digest
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import EACH, Plan, planned
from bilevelbench.measure.trace import trace
from bilevelbench.store.aims import NOTHING
from bilevelbench.store.aims import aims as goals_of
from bilevelbench.store.references import Known, shipped

from .worth import Goal, worth

POWER = 20  # iterations that the largest curvature is estimated by
SMALL = 1e-4  # length of a difference of gradients, relative to y
LOOKS = 12  # about as many as steps double in a run
CROSSED = 20  # steps in which a lower level without curvature is crossed


def goals(problem: Problem) -> dict[str, Goal]:
    """The problem's own figures that are to be reached: the hardest line of its bar, and its targets."""
    said = {"better": problem.better, "target": problem.target, "bar": problem.bar._asdict() if problem.bar else None}
    return goals_of({**said, "references": problem.references() if problem.references else {}})


class Instance(NamedTuple):
    """A problem at a seed, what its own figures should be, and the best Phi known of it, NaN where none is."""

    problem: Problem
    goals: dict[str, Goal]
    reference: float


@functools.lru_cache(4)
def _instance(text: str, seed: int) -> Instance:
    rng = Draw(seed)
    made = build_problem(text, rng)
    entry, spec = resolve(PROBLEMS, text)
    seen = {"phi_star": made.phi_star, "digest": digest(made, rng, rng)}
    key = {"problem": str(spec), "problem_version": entry.version, "seed": seed}
    return Instance(made, goals(made), Known(()).of({"problem": seen, "key": key})[0])


def outcome(problem: str, solver: str, seed: int, limits: Mapping[str, int], judge: str = "") -> dict[str, Any]:
    """A run's ``score`` from 0, the worst, to 1; ``share`` of targets held and their geometric-mean ``cost``; status;
    CPU seconds. ``judge``: see ``measure.plan``.

    A target more is worth more than any saving. Where none is held the score says how far the first one was, so that a
    search has a direction; where a problem sets none it says how much of Phi is gone. What failed scores 0.
    """
    torch.set_num_threads(1)
    begun = time.process_time()
    made, own, reference = _instance(problem, seed)
    budget = Budget(**limits, steps=max(limits.values()))  # for a solver that asks nothing
    judged = _Begun(problem, seed, _at_doublings(planned(made, budget, judge)))
    try:
        with_ = make_solver(solver)
    except RequestError:  # a value of its space that the solver does not take
        return {"score": 0.0, "share": 0.0, "cost": math.inf, "status": "error", "cpu": 0.0}
    rows = list(trace(made, with_, seed, budget, judged, Stopwatch(lambda: None), False))
    status = rows[-1].status
    found = {"score": 0.0, "share": 0.0, "cost": math.inf} if status in NOTHING else worth(rows, own, budget, reference)
    return {**found, "status": status, "cpu": time.process_time() - begun}


@functools.lru_cache(4)
def _start(text: str, seed: int, plan: Plan) -> tuple[Judge, dict[str, float]]:
    made = _instance(text, seed).problem
    judge = Judge(made, plan, slopes=False)
    return judge, judge(made.x0, made.y0, 0, False)


class _Begun:
    """Judges a run. The start is alike for all runs on an instance, and dear where y* is solved for: asked once."""

    def __init__(self, text: str, seed: int, plan: Plan) -> None:
        judge, self._metrics = _start(text, seed, plan)
        self._judge, self.unjudged = copy.copy(judge), judge.unjudged

    def __call__(self, x: Tensor, y: Tensor, step: int = 0, last: bool = True) -> dict[str, float]:
        """As ``Judge``."""
        p = self._judge.problem
        if step == 0 and not last:
            if torch.equal(x, p.x0) and torch.equal(y, p.y0):
                return dict(self._metrics)
            self._judge = Judge(p, self._judge.plan, slopes=False)  # of a solver that begins elsewhere
        metrics = self._judge(x, y, step, last)
        self.unjudged = self._judge.unjudged
        return metrics


def _at_doublings(plan: Plan) -> Plan:
    """Phi judged at doublings of the steps alone where y* is solved for: that would cost more than the steps."""
    return (
        replace(plan, sparse=True, gradients=EACH * LOOKS, looks=LOOKS) if plan.gradients and not plan.sparse else plan
    )


def survey(problem: str, solver: str, seed: int) -> dict[str, Any]:
    """The ``axes`` along which a solver is tuned on a problem (see ``lattice.Grid``) and knobs that are ``fixed``, or
    why it is ``unsupported``; and the digest of the ``code`` that scores hang on. Knobs that are given are kept."""
    torch.set_num_threads(1)
    entry, _ = resolve(SOLVERS, solver)
    of_problem, _ = resolve(PROBLEMS, problem)
    best = sorted(one.phi for one in shipped() if one.problem.partition("(")[0] == of_problem.name)
    references = hashlib.sha256(repr(best).encode()).hexdigest()[:8]  # a better reference is another score
    code = f"{source_digest(of_problem.file, entry.file, rooms=('core', 'data'))}-{references}"
    made_solver = make_solver(solver)
    try:
        made = _instance(problem, seed).problem
        require(made_solver, made)
        step, curvature = _scales(problem, seed)
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


@functools.lru_cache(4)  # of a problem with several solvers one is tuned after the other
def _scales(text: str, seed: int) -> tuple[float, float]:
    return scales(_instance(text, seed).problem)


def scales(problem: Problem) -> tuple[float, float]:
    """The step on x that moves it by its own size (at least 1 a variable) along the hypergradient at the start; and the
    largest curvature of g(x, .) there, or what takes its place where g has none: the slope over a part of y's size."""
    x, y = problem.x0, problem.y0
    curvature = curvature_of(problem, x, y)
    found = Judge(problem, planned(problem, Budget(steps=1)) if problem.phi_at == "never" else None)(x, y)
    slope = found.get("grad_phi") or float(derive.grad_x(problem.f, x, y).norm())
    size = math.sqrt(x.numel()) * max(1.0, float(x.square().mean().sqrt()))
    step = size / slope if 0 < slope < math.inf else 1.0
    return float(f"{min(1e12, max(1e-12, step)):.3g}"), curvature


def curvature_of(problem: Problem, x: Tensor, y: Tensor) -> float:
    """The largest curvature of g(x, .) at y, by a power method on differences of its gradient; see ``scales``."""
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
