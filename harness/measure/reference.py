"""The best Phi that a search of its own finds: L-BFGS on x with exact y*(x) and exact hypergradients, from many starts.

It is an upper bound on the least Phi, and no more: nothing here knows whether another basin lies lower. What is kept is
judged as any answer of a solver is, by ``Judge``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench.core.errors import RequestError
from bilevelbench.core.problem import Problem

from .judge import Judge
from .level import Spent
from .phi import Answer, Phi, Stuck, Told

METHOD = "L-BFGS with exact hypergradients"
JITTER = (1.0, 0.3, 3.0)  # of further starts, beside the way that the first search went, in turn
FLAT = 1e-9  # of the first gradient: a search ends there
BETTER = 1e-10  # of |Phi|, or of the way that it has come down: what lowers it by less is no gain
CAREFUL = 1 / 64  # of the first step where g is not convex: far away y* is in another basin, and dear to solve for
SHORTER, CUTS = 1 / 8, 3  # of the first step of a search that is begun again where it got stuck, and how often it is


class Best(NamedTuple):
    """What a search has found. The figures are the judge's, None where they could not be had."""

    x: Tensor
    y: Tensor
    phi: float
    phi_error: float
    grad_phi: float | None
    grad_phi_error: float | None
    ended: str
    starts: int
    gradients: int


def search(
    problem: Problem, starts: int = 5, budget: int = 100_000, seed: int = 0, tell: Told = lambda spent, least: None
) -> Best:
    """The best Phi from x0 and ``starts`` - 1 points around it, with ``budget`` gradients of g in all.

    The starts share half of it evenly; the best of all is gone on from with whatever is left. ``seed`` draws them.
    ``RequestError`` where Phi cannot be judged, the budget does not do, or there are constraints above.
    """
    if problem.h_f is not None:
        raise RequestError("it has constraints above (h_f), which this search does not keep")
    phi = Phi(problem, budget, tell)
    rng = np.random.default_rng([seed, starts])
    best, made, settled = _first(phi, problem, budget), 0, False
    origin = best
    for k in range(starts):
        share = phi.spent + max(0.0, budget / 2 - phi.spent) / (starts - k)
        try:
            begin = origin if k == 0 else _jittered(phi, origin, best, JITTER[(k - 1) % len(JITTER)], rng, share)
        except (Stuck, Spent):
            continue
        found, done = _descend(phi, begin, share)
        made += 1
        if found.phi < best.phi or k == 0:
            best, settled = found, done
    if not settled:
        best, settled = _descend(phi, best, budget)
    return _judged(problem, best, made, settled, phi.spent)


def _first(phi: Phi, problem: Problem, budget: int) -> Answer:
    x0 = problem.x0 if problem.project_x is None else problem.project_x(problem.x0)
    try:
        return phi.at(x0, problem.y0, False, budget)
    except Spent:
        raise RequestError(
            f"a budget of {budget} gradients of g does not do for y* at the start; give it a larger one"
        ) from None
    except Stuck as stuck:
        raise RequestError(f"it cannot be judged at its start: {stuck}") from None


def _jittered(phi: Phi, origin: Answer, best: Answer, factor: float, rng: np.random.Generator, most: float) -> Answer:
    """An answer as far from the start as the best one is, times a factor; in y, too, unless y* is unique."""
    p = phi.problem
    x = origin.x + factor * _noise(rng, origin.x) * float((best.x - origin.x).norm())
    x = x if p.project_x is None else p.project_x(x)
    y = origin.y
    if not phi.convex and p.y_star is None:
        y = y + factor * _noise(rng, y) * float((best.y - origin.y).norm() or 1.0)
    return phi.at(x, y, False, most)


def _noise(rng: np.random.Generator, like: Tensor) -> Tensor:
    """A random vector whose expected square is 1."""
    return torch.from_numpy(rng.standard_normal(like.numel())).to(like) / math.sqrt(like.numel())


def _descend(phi: Phi, begin: Answer, most: float) -> tuple[Answer, bool]:
    """The best answer of L-BFGS from one, and whether it came to an end before ``most`` gradients were spent.

    Where a step leads to no answer, or over a jump, it begins again from the best with a shorter first step.
    """
    best, unit = begin, _unit(begin) * (1 if phi.convex or phi.problem.y_star else CAREFUL)
    for _ in range(1 + CUTS):
        while True:
            found, spent = _lbfgs(phi, best, unit, most)
            gain = best.phi - found.phi
            best = min(found, best, key=lambda answer: answer.phi)
            if spent:
                return best, False
            if float(_free(phi.problem, best).norm()) <= FLAT * float(begin.slope.norm()):
                return best, True
            if not gain > BETTER * max(abs(best.phi), begin.phi - best.phi):
                break
        unit *= SHORTER
    return best, True


def _unit(begin: Answer) -> float:
    """A length of x to begin with: its own, or that of a step along which Phi would fall to 0, if that is shorter. A
    power of 2, by which x is scaled without rounding: what lies on a bound stays there."""
    size, slope = float(begin.x.norm()), float(begin.slope.norm())
    lengths = [size, abs(begin.phi) / slope if slope else 0.0]
    return 2.0 ** round(math.log2(min((length for length in lengths if length), default=1.0)))


def _lbfgs(phi: Phi, begin: Answer, unit: float, most: float) -> tuple[Answer, bool]:
    """L-BFGS in units of its own, of x and of Phi. The best answer, and whether ``most`` gradients are spent."""
    best, size = begin, float(begin.slope.norm())
    if not size:
        return best, False
    scale = unit * size

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        x = _inside(phi.problem, torch.from_numpy(unit * vector).to(begin.x))
        answer = phi.at(x, best.y, True, most)
        best = min(best, answer, key=lambda one: one.phi)
        return (answer.phi - begin.phi) / scale, (answer.slope / size).detach().cpu().double().numpy()

    options = {
        "gtol": FLAT / math.sqrt(begin.x.numel()),
        "ftol": 1e-14,
        "maxcor": 30,
        "maxiter": 10**6,
        "maxfun": 10**7,
    }
    start = (begin.x / unit).detach().cpu().double().numpy()
    try:
        minimize(fun, start, jac=True, method="L-BFGS-B", bounds=_bounds(phi.problem, unit), options=options)
    except Spent:
        return best, True
    except Stuck:
        pass
    return best, False


def _inside(problem: Problem, x: Tensor) -> Tensor:
    return x if problem.project_x is None else problem.project_x(x)


def _bounds(problem: Problem, unit: float) -> list[tuple[float, float]] | None:
    found = problem.bounds_x
    return None if found is None else list(zip(*((bound / unit).tolist() for bound in found), strict=True))


def _free(problem: Problem, answer: Answer) -> Tensor:
    """The gradient of the variables that no bound holds."""
    if problem.bounds_x is None:
        return answer.slope
    low, high = problem.bounds_x
    held = ((answer.x <= low) & (answer.slope > 0)) | ((answer.x >= high) & (answer.slope < 0))
    return torch.where(held, 0.0, answer.slope)


def _judged(problem: Problem, best: Answer, starts: int, settled: bool, spent: float) -> Best:
    judge = Judge(problem)
    found = judge(best.x, best.y)
    if "phi" not in found:
        raise RequestError(f"it cannot be judged where the search ended: {judge.unjudged}")
    norm = float(_free(problem, best).norm()) if "grad_phi" in found else None
    ended = "settled" if settled else "budget"
    return Best(
        best.x, best.y, found["phi"], found.get("phi_error", 0.0), norm, found.get("grad_phi_error"), ended, starts,
        int(spent),
    )  # fmt: skip
