"""What a step costs, exactly: oracle calls, peak bytes, calls to a target. The same on every machine, hence first."""

import math
from collections import Counter
from typing import Any

import torch

from bilevelbench.asv.names import (
    FEW_PROBLEMS,
    FEW_SOLVERS,
    MEMORY_SOLVERS,
    PROBLEM_NAMES,
    SOLVER_NAMES,
    TARGET_KNOBS,
    TARGET_NAMES,
    chosen,
)
from bilevelbench.core import derive
from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, knobs, make_solver, resolve
from bilevelbench.core.solver import State, require, start
from bilevelbench.core.spec import Spec
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.memory import peak
from bilevelbench.measure.trace import trace

STEPS = 20  # of which the calls are the mean
MOST_CALLS = 1000  # of a step; one of more is n/a: fmd pushes 600 directions through hyper_cleaning, a minute of it

# asv forks a process for each value from one that has imported this file. Without this each of the thousands imports
# scikit-learn and all solvers and problems anew: 2 s of the 2.2 s that a value took.
SOLVERS.names(), PROBLEMS.names()


class _Limited(Oracle):
    """Refuses to answer a step to its end that takes too long to be followed."""

    def _count(self, *asked: Any) -> Any:
        given = super()._count(*asked)
        if total(self.calls) > MOST_CALLS:
            raise Unsupported(f"a step asks more than {MOST_CALLS} calls")
        return given


class Step:
    """A solver on a problem, by name or by file, both with their default knobs. Not a benchmark: it has no figure."""

    params: tuple[list[str], ...] = (["quadratic"], SOLVER_NAMES)  # calls do not depend on the problem
    param_names: tuple[str, ...] = ("problem", "solver")
    timeout = 300  # of the wall: on a machine that is overrun torch alone takes a minute to import
    version = "1"
    derivatives: derive.Derivatives = derive

    def setup(self, problem: str, solver: str) -> None:
        try:
            resolve(PROBLEMS, problem), resolve(SOLVERS, solver)
        except RequestError:
            raise NotImplementedError("not in this commit") from None  # asv's word for n/a
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json
        self.solver = make_solver(solver)
        try:
            self.problem = build_problem(problem, Draw(0))
            require(self.solver, self.problem)
            oracle = _Limited(self.problem, 0)
            self.solver.step(oracle, start(self.solver, self.problem, oracle))
        except Unsupported as reason:
            raise NotImplementedError(str(reason)) from None

    def step(self, steps: int) -> tuple[Counter[str], State]:
        """The first steps from the problem's start: what they asked, and where they ended."""
        oracle = Oracle(self.problem, 0, self.derivatives)
        state = start(self.solver, self.problem, oracle)
        before = oracle.calls
        for k in range(steps):
            oracle.begin(k)
            state = self.solver.step(oracle, state)
        return oracle.calls - before, state


class Calls(Step):
    """Oracle calls of a step: values, gradients and second-order products count one each."""

    unit = "calls"

    def track_calls_per_step(self, problem: str, solver: str) -> float:
        calls, _ = self.step(STEPS)
        return total(calls) / STEPS


class Memory(Step):
    """Peak of live tensor bytes beyond the problem's data."""

    params = (chosen(FEW_PROBLEMS, PROBLEM_NAMES), chosen(MEMORY_SOLVERS, MEMORY_SOLVERS, SOLVER_NAMES))
    unit = "bytes"

    def track_peak_bytes(self, problem: str, solver: str) -> int:
        return peak(self.problem, self.solver)["peak_bytes"]


class Target(Step):
    """Oracle calls until Phi, or its gradient, is down to a tenth of its start; n/a where 500 steps do not get there.

    Deterministic: another value is another algorithm.
    """

    params = (TARGET_NAMES, chosen(FEW_SOLVERS, SOLVER_NAMES))
    unit = "calls"
    budget = Budget(steps=500, calls=10_000)

    def setup(self, problem: str, solver: str) -> None:
        super().setup(problem, solver)
        known = knobs(resolve(SOLVERS, solver)[0])
        chosen = {name: value for name, value in TARGET_KNOBS.get(problem, {}).items() if name in known}
        self.solver = make_solver(str(Spec(solver, chosen)))

    def track_calls_to_target(self, problem: str, solver: str) -> float:
        first = None
        rows = trace(
            self.problem, self.solver, 0, self.budget, Judge(self.problem), Stopwatch(lambda: None), iterates=False
        )
        for row in rows:
            value = row.metrics.get("phi_gap", row.metrics.get("grad_phi"))
            if value is None:
                return math.nan
            first = value if first is None else first
            if value <= 0.1 * first:
                return row.total_calls
        return math.nan
