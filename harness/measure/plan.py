"""What is judged at which look, and how much of g that may ask: fixed before a problem's runs, alike for all solvers.

It goes by the problem and by the budget of a run, never by how fast a solver is or how busy the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bilevelbench.core.errors import Unsupported
from bilevelbench.core.problem import Problem

from .budget import Budget

EACH = 20_000  # gradients of g that a look may ask where Phi is judged at each, and that all may together where a
# problem asks for doublings: a bound, seldom near
WORK = 5e7  # that judging a run may take in any case, where a gradient takes n_y times rows of g and
NODE = 2000  # for each node of g's graph, which small networks consist of
FEW, MANY = 100, 5000  # gradients: the least and the most that comes to
A_STEP = 2  # gradients that a step asks at the least, where a run is limited by steps
UNKNOWN = 2000  # gradients of a run that is limited by seconds alone
FIGURES = "figures"  # a run's knob ``judge``: the problem's own figures alone
ASKED = "as was asked for (judge = 'figures')"
NEVER = "y* takes more than a look may ask, as the problem says (phi_at = 'never')"
CHANGES = "the problem changes with the step, so there is no one phi"
START = 1 / 3  # of them may be spent at the start, the only look that has no solution near


@dataclass(frozen=True)
class Plan:
    """Where Phi, and all that needs y*, is judged; the problem's own figures are judged at every look.

    ``sparse``: at the start, each time the steps have doubled, and at the end; otherwise at every look. ``gradients``:
    of g, for all looks of a run together where it is sparse, for each otherwise; 0 where y* has a closed form.
    ``looks``: among how many looks they are shared out; what one leaves the next ones have. Where the start, alike for
    all solvers, takes more than its share, so would every look: what is left is kept for the last. ``without``: why
    Phi is judged at no look, and a run goes by the problem's own figures; '' where it is.
    """

    sparse: bool = False
    gradients: int = EACH
    looks: int = 1
    without: str = ""

    def due(self, step: int, last_due: int, last: bool) -> bool:
        """Whether Phi is judged at a look; ``last_due``: the step at which it last was, -1 for never."""
        if self.without:
            return False
        return not self.sparse or last or last_due < 0 or step >= max(1, 2 * last_due)

    def allowance(self, judged: int, asked: float) -> float:
        """Gradients for the next look, ``judged`` looks and ``asked`` gradients into a run."""
        if not self.sparse:
            return self.gradients
        share = START + (1 - START) * min(1.0, judged / max(1, self.looks - 1))
        return max(0.0, self.gradients * share - asked)

    @property
    def words(self) -> str:
        """The plan in a clause, for a header."""
        if self.without:
            return f"the problem's own figures alone, no phi: {self.without}"
        if not self.gradients:
            return "phi at every look, y* in closed form"
        if not self.sparse:
            return f"phi at every look, with at most {self.gradients} gradients of g each"
        return (
            "phi at the start, each time the steps have doubled, and at the end, with at most "
            f"{self.gradients} gradients of g together (at the end alone where the start takes too many); "
            "the problem's own figures at every look"
        )


def planned(problem: Problem, budget: Budget, judge: str = "") -> Plan:
    """The plan of all runs with this budget on a problem; ``judge`` is "figures" where no Phi is wanted.

    ``Unsupported`` where no Phi is wanted and the problem has no figures of its own.
    Phi is judged sparsely where y* is solved for and need not be the one minimiser, unless ``problem.phi_at`` says
    else. Then judging asks of g about what a cheap solver asks; where g is small it may ask more, and so it may where
    the problem says by ``phi_at`` that Phi at doublings is what it is about.
    """
    if problem.stream is not None:
        return Plan(without=CHANGES)
    if judge == FIGURES:
        if problem.metrics is None:
            raise Unsupported("judge='figures' needs figures of the problem's own, and this one has phi alone")
        return Plan(without=ASKED)
    if problem.phi_at == "never":
        return Plan(without=NEVER)
    if problem.y_star is not None:
        return Plan(gradients=0)
    sparse = problem.phi_at == "doublings" or (not problem.phi_at and "strongly_convex" not in problem.flags)
    if not sparse:
        return Plan()
    work = problem.y0.numel() * problem.n_g + NODE * _nodes(problem)
    least = min(MANY, max(FEW, int(WORK / work)))
    least = max(least, EACH) if problem.phi_at == "doublings" else least
    of_steps, of_rows = A_STEP * (budget.steps or 0), (budget.rows or 0) // problem.n_g
    run = min([limit for limit in (of_steps, budget.calls, of_rows) if limit] or [UNKNOWN])
    looks = (budget.steps or budget.calls or budget.rows or UNKNOWN).bit_length() + 2
    return Plan(True, max(least, run), looks)


def _nodes(problem: Problem) -> int:
    """How many operations the graph of g's gradient has."""
    with torch.enable_grad():
        value = problem.g(problem.x0, problem.y0.detach().requires_grad_())
    seen: set[Any] = set()
    waiting = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [below for below, _ in node.next_functions]
    return len(seen)
