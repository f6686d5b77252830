"""x -> Phi(x) and its gradient, as exactly as y*(x) and the inverse of the lower Hessian can be had."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.problem import Problem

from .guards import second_derivatives
from .judge import LINEAR_TOLERANCE
from .level import Level, Spent
from .lower import NEEDS_MORE, STALLED, Nearby, solve

Told = Callable[[float, float], None]  # the gradients spent, the least Phi


class Answer(NamedTuple):
    """Phi at x, its gradient and y*(x)."""

    phi: float
    slope: Tensor
    x: Tensor
    y: Tensor


class Stuck(Exception):
    """There is no answer at this x."""


class Phi:
    """x -> Phi(x) and its gradient, by y*(x) solved to rounding, with what it asks of g counted.

    ``near``: the answer whose y* is followed. ``most``: how many gradients of g may be asked in all.
    """

    def __init__(self, problem: Problem, most: int, tell: Told) -> None:
        self.problem, self.most, self._tell = problem, most, tell
        self.spent, self.least = 0.0, math.inf
        self._twice = problem.y_star is not None or second_derivatives(problem) == "there"
        self._nearby = Nearby()
        self.convex = bool({"strongly_convex", "convex"} & problem.flags)

    def at(self, x: Tensor, y: Tensor, settled: bool, most: float) -> Answer:
        """The answer at x; ``y``: where the re-solve begins, ``settled`` at a minimiser near. ``Spent``, ``Stuck``."""
        if self.spent >= min(most, self.most):
            raise Spent
        answer = self._closed(x) if self.problem.y_star else self._solved(x, y, settled, min(most, self.most))
        if not (math.isfinite(answer.phi) and bool(torch.isfinite(answer.slope).all())):
            raise Stuck("Phi or its gradient is not finite")
        self.least = min(self.least, answer.phi)
        self._tell(self.spent, self.least)
        return answer

    def _closed(self, x: Tensor) -> Answer:
        p = self.problem
        assert p.y_star is not None
        self.spent += 1
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            best = p.y_star(leaf)
            value = p.f(leaf, best)
            slope = torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(x)
        return Answer(float(value.detach()), slope, x, best.detach())

    def _solved(self, x: Tensor, y: Tensor, settled: bool, most: float) -> Answer:
        p = self.problem
        level = Level(p.g, x, self._twice, most - self.spent, p.bounds_y)
        try:
            found = solve(level, y, self.convex or settled, self._nearby.factor)
            if found.why.startswith(NEEDS_MORE):
                raise Spent
            if found.inverse is None or found.why not in ("", STALLED):
                raise Stuck(found.why)
            fx, fy = derive.grad(p.f, x, found.y)
            q = found.inverse(fy, LINEAR_TOLERANCE)
            slope = fx - level.cross(found.y, q.vector)
            self._nearby = self._nearby.after(level, found)
        except ArithmeticError as error:
            raise Stuck(str(error)) from None
        finally:
            self.spent += level.asked
        return Answer(float(derive.value(p.f, x, found.y)), slope, x, found.y)
