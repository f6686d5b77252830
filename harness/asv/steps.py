"""What a step costs: oracle calls and peak bytes, which are exact, and seconds, which are to be watched only.

asv addresses parameters by their place in the lists and imports this file in each commit's environment. So the lists
are literal and only grow at the end; a solver or problem that a commit lacks is n/a there.
"""

import math
import os
from collections import Counter
from typing import Any

import torch

from bilevelbench.core import derive, engines
from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, knobs, make_solver, resolve
from bilevelbench.core.solver import State, require, start
from bilevelbench.core.spec import Spec
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch, drain
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import floor_of, paired
from bilevelbench.measure.trace import trace

PROBLEM_NAMES = [
    "quadratic", "coreset", "minimax", "singleton", "logistic", "hyper_cleaning", "few_shot", "penalty_example",
    "bounded_sine", "chain", "darts_toy", "finite_sum_quadratic", "flat_lower", "hyper_representation", "jump",
    "min_norm", "pl_sine", "ridge", "saddle", "sine",
    "architecture", "bolib", "box_quadratic", "continual", "coupled_equality", "dictionary",
    "elastic_net", "fair", "l2_newsgroups",
    "poisoning", "policy", "reweighting", "simplex_projection", "svm",
    "coreset_kernel", "smd",
    "once",
]  # fmt: skip
SOLVER_NAMES = [
    "bome", "penalty", "itd", "aid_cg", "aid_neumann", "vpbgd", "f2sa", "soba", "first_order", "bda", "darts", "es",
    "fmd", "iaptt", "k_rmd", "lower_only", "pzobo", "random_search", "t1t2", "amigo", "bic_gaffa", "bome_released",
    "bsa", "bsg1", "bvfsm", "f2sa_2", "f3sa", "fdehbo", "fsla", "g_pbgd", "lv_hba", "ma_soba", "meha", "mrbo",
    "nystrom", "pbgd_free", "saba", "sama", "sl_bamm", "spaba", "srba", "stocbio", "sustain", "ttsa", "vrbo",
]  # fmt: skip
TARGET_NAMES = ["quadratic", "coreset", "minimax", "singleton"]
TARGET_KNOBS = {  # steps in the middle of those that the default suite was tuned over; the other knobs as they stand
    "quadratic": {"lr": 0.03, "lr_inner": 1.0}, "coreset": {"lr": 0.5, "lr_inner": 0.25},
    "minimax": {"lr": 0.05, "lr_inner": 0.05}, "singleton": {"lr": 0.1, "lr_inner": 0.5},
}  # fmt: skip
ENGINE_NAMES = ["eager", "functional", "compiled", "cuda_graph", "compiled_oracle"]
DEVICE_NAMES = ["cpu", "cuda"]
SPEED_NAMES = ["quadratic", "hyper_cleaning"]  # calls do not depend on the problem, and seconds take long to measure
# Compiling takes 10 to 30 s a step, and tests hold all engines to one set of numbers and counts: engines but the eager
# one are followed on these. BILEVELBENCH_ASV_ALL=1 follows all solvers.
ENGINE_SOLVERS = ["bome", "itd", "first_order"]
ALL = "BILEVELBENCH_ASV_ALL"
# Bytes, too, of these on every problem, of the other solvers on two: 1600 values took more than a quarter of an hour.
MEMORY_SOLVERS = ["bome", "penalty", "itd", "aid_cg", "soba", "first_order", "lv_hba", "bic_gaffa"]
ROUNDS = 15
STEPS = 20  # asv makes one call a sample where there is a setup, and one step is too short for a clock
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


class _Step:
    """A solver on a problem, by name or by file, both with their default knobs."""

    params: tuple[list[str], ...] = (SPEED_NAMES, SOLVER_NAMES)
    param_names: tuple[str, ...] = ("problem", "solver")
    timeout = 120
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


class Calls(_Step):
    """Oracle calls of a step: values, gradients and second-order products count one each."""

    unit = "calls"

    def track_calls_per_step(self, problem: str, solver: str) -> float:
        calls, _ = self.step(STEPS)
        return total(calls) / STEPS


class Memory(_Step):
    """Peak of live tensor bytes beyond the problem's data."""

    params = (PROBLEM_NAMES, SOLVER_NAMES)
    unit = "bytes"

    def setup(self, problem: str, solver: str) -> None:
        if problem not in SPEED_NAMES and solver not in MEMORY_SOLVERS and not os.environ.get(ALL):
            raise NotImplementedError(f"followed there for {', '.join(MEMORY_SOLVERS)}; {ALL}=1 follows all")
        super().setup(problem, solver)

    def track_peak_bytes(self, problem: str, solver: str) -> int:
        return peak(self.problem, self.solver)["peak_bytes"]


class Target(_Step):
    """Oracle calls until Phi, or its gradient, is down to a tenth of its start; n/a where 500 steps do not get there.

    Deterministic: another value is another algorithm.
    """

    params = (TARGET_NAMES, SOLVER_NAMES)
    unit = "calls"
    budget = Budget(steps=500, calls=10_000)

    def setup(self, problem: str, solver: str) -> None:
        super().setup(problem, solver)
        known = knobs(SOLVERS.entries[solver])
        chosen = {name: value for name, value in TARGET_KNOBS[problem].items() if name in known}
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


class _Engine(_Step):
    """A solver on a problem by an engine on a device."""

    params = (SPEED_NAMES, SOLVER_NAMES, ENGINE_NAMES, DEVICE_NAMES)
    param_names = ("problem", "solver", "engine", "device")

    def setup(self, problem: str, solver: str, engine: str = "eager", device: str = "cpu") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise NotImplementedError("this machine has no CUDA device")
        if engine != "eager" and solver not in ENGINE_SOLVERS and not os.environ.get(ALL):
            raise NotImplementedError(f"this engine is followed for {', '.join(ENGINE_SOLVERS)}; {ALL}=1 follows all")
        super().setup(problem, solver)
        self.problem = build_problem(problem, Draw(0, device))
        try:
            self.solver = engines.driven(engine, self.solver, self.problem)
            self.derivatives = engines.derivatives(engine)
            self.step(1)
        except Unsupported as reason:
            raise NotImplementedError(str(reason)) from None


class Floor(_Engine):
    """Seconds of a step over those of its floor by the eager engine, in one process: see ``measure.ratio.floor_of``."""

    unit = "ratio"
    version = "2"  # 1: over bare derivatives that kept no graph, for every solver

    def track_step_over_floor(self, problem: str, solver: str, engine: str = "eager", device: str = "cpu") -> float:
        return paired(lambda: self.step(4), floor_of(self.problem, make_solver(solver), 4), ROUNDS, device).median


class Time(_Engine):
    """Wall seconds of twenty steps. Identical code differed by a factor of 2 to 3 on a shared machine."""

    rounds = 2
    warmup_time = 0.1
    repeat = (2, 5, 2.0)  # least, most, seconds

    def time_step(self, problem: str, solver: str, engine: str = "eager", device: str = "cpu") -> None:
        self.step(STEPS)
        drain(device)()
