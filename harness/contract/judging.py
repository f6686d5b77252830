"""How well Phi can be judged on a problem: what is certified of the lower solution, and to how many digits."""

from __future__ import annotations

from bilevelbench.core.problem import Problem
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import planned

from .problems import built, probe

STEPS = 1000  # of the run whose plan is tried


def phi_is_judged(target: str) -> str:
    """What the judge says of a point near the start, as it would in a run; that it may say nothing is no fault."""
    problem = built(target)
    plan = planned(problem, Budget(steps=STEPS))
    judge = Judge(problem, plan)
    found = judge(*probe(problem))
    if problem.y_star is not None:
        return plan.words
    if "phi" not in found:
        return f"n/a near the start: {judge.unjudged}; planned is {plan.words}"
    digits = [f"phi to {found['phi_error'] / (abs(found['phi']) or 1.0):.0e}"]
    if "grad_phi" in found:
        digits.append(f"grad_phi to {found['grad_phi_error'] / (found['grad_phi'] or 1.0):.0e}")
    return f"{' and '.join(digits)}, relative; y* is {certified(problem)}; planned is {plan.words}"


def certified(problem: Problem) -> str:
    """What is known of a lower solution that the judge has found, and what is not."""
    if "strongly_convex" in problem.flags:
        return "the one minimiser"
    if "convex" in problem.flags:
        return "a minimiser, and f the same at any that is near"
    return "a local minimiser; that none is lower is not certified"
