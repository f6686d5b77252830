"""Every way in which one step of a stochastic solver can go, with its probability: means without sampling.

A step is run again and again on an oracle that hands out chosen minibatches and whole numbers, until each choice that
it meets has been made in every way. What is drawn may depend on what was drawn before (a series of random length).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from math import comb
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import knobs, resolve
from bilevelbench.core.solver import Solver, require, start

from .quadratic import finite_sum, quadratic

MOST = 20000  # outcomes; more than a test should wait for
UNBIASED = 1e-9  # a mean that is off by no more, in units of the step, is off by rounding


class TooMany(AssertionError):
    """A step can go in more ways than there is time for."""


class Scripted(Oracle):
    """Draws what the script says, one number below the count of possibilities for each draw; then the first ones."""

    def __init__(self, problem: Problem, script: list[int]) -> None:
        super().__init__(problem)
        self.script = script
        self.made: list[tuple[int, int]] = []  # (choice, of how many) so far

    def _choose(self, of: int) -> int:
        k = len(self.made)
        self.made.append((self.script[k] if k < len(self.script) else 0, of))
        return self.made[-1][0]

    def _draw(self, stream: str, n: int, size: int, device: torch.device) -> Tensor:
        super()._draw(stream, n, size, device)  # counts, and refuses what is no finite sum
        subsets = combinations(range(n), min(size, n))
        chosen = self._choose(comb(n, min(size, n)))
        return torch.tensor(next(rows for k, rows in enumerate(subsets) if k == chosen), device=device)

    def integer(self, n: int) -> int:
        super().integer(n)
        return self._choose(n)

    def normal(self, n: int) -> Tensor:
        raise NotImplementedError("a normal vector takes more values than can be enumerated")


def outcomes(solver: Solver, problem: Problem, state: Any = None) -> Iterator[tuple[float, Any]]:
    """(probability, next state) of every way a step from this state can go; from the start unless a state is given."""
    state = start(solver, problem, Oracle(problem)) if state is None else state
    script: list[int] = []
    for _ in range(MOST):
        oracle = Scripted(problem, script)
        after = solver.step(oracle, state)
        probability = 1.0
        for _, of in oracle.made:
            probability /= of
        yield probability, after
        made = oracle.made
        while made and made[-1][0] == made[-1][1] - 1:  # to the next choice in the order of an odometer
            made.pop()
        if not made:
            return
        script = [choice for choice, _ in made[:-1]] + [made[-1][0] + 1]
    raise TooMany(f"a step can go in more than {MOST} ways")


def mean(solver: Solver, problem: Problem, value: Callable[[Any], Tensor], state: Any = None) -> Tensor:
    """The mean of a value of the next state, exactly: ``mean(solver, problem, lambda s: s.x)``."""
    total: Any = 0.0
    weight = 0.0
    for probability, after in outcomes(solver, problem, state):
        total, weight = total + probability * value(after), weight + probability
    assert abs(weight - 1.0) < 1e-12, f"the probabilities of all outcomes add up to {weight}"
    return torch.as_tensor(total)


def minibatches_are_unbiased(target: str) -> str:
    """The mean of a first step over all minibatches is the step with all rows; or the solver says why it is not.

    On quadratics, where a step that takes every minibatch for one thing only is linear in each.
    """
    entry, spec = resolve(SOLVERS, target)
    known = knobs(entry)
    if "batch" not in known:
        raise Unsupported("it has no knob batch")
    few = {name: n for name, n in (("T", 1), ("K", 2), ("Q", 2)) if name in known}
    whole, part = (entry.make(**spec.arguments | few | {"batch": batch}) for batch in (None, 1))
    problem = finite_sum(quadratic(2, 2, 2.0), n=2)
    require(part, problem)
    first = start(whole, problem, Oracle(problem))

    def moved(after: Any) -> Tensor:
        return torch.cat([after.x - first.x, after.y - first.y])

    try:
        steps = [mean(solver, problem, moved) for solver in (part, whole)]
    except (TooMany, NotImplementedError) as reason:
        raise Unsupported(f"its minibatches cannot be enumerated: {reason}") from None
    off = float((steps[0] - steps[1]).norm() / steps[1].norm())
    words = f"the mean of a step over all minibatches is {off:.1e} of its length away from the step with all rows"
    if part.biased:
        assert off > UNBIASED, f"{words}, and it says that it is biased"
        return f"{words}: {part.biased}"
    assert off <= UNBIASED, f"{words}; draw one for each use, or say why in `biased`"
    return words
