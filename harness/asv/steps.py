"""What a step costs: oracle calls and peak bytes, which are exact, and seconds, which are to be watched only.

asv addresses parameters by their place in the lists and imports this file in each commit's environment. So the lists
are literal and only grow at the end; a solver or problem that a commit lacks is n/a there.
"""

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle, total
from bilevelbench.core.registry import PROBLEMS, SOLVERS, build_problem, make_solver
from bilevelbench.core.solver import State, require, start
from bilevelbench.run.memory import peak

PROBLEM_NAMES = [
    "quadratic", "coreset", "minimax", "singleton", "logistic", "hyper_cleaning", "few_shot", "penalty_example",
    "bounded_sine", "chain", "darts_toy", "finite_sum_quadratic", "flat_lower", "hyper_representation", "jump",
    "min_norm", "pl_sine", "ridge", "saddle", "sine",
]  # fmt: skip
SOLVER_NAMES = [
    "bome", "penalty", "itd", "aid_cg", "aid_neumann", "vpbgd", "f2sa", "soba", "first_order", "bda", "darts", "es",
    "fmd", "iaptt", "k_rmd", "lower_only", "pzobo", "random_search", "t1t2", "amigo", "bic_gaffa", "bome_released",
    "bsa", "bsg1", "bvfsm", "f2sa_2", "f3sa", "fdehbo", "fsla", "g_pbgd", "lv_hba", "ma_soba", "meha", "mrbo",
    "nystrom", "pbgd_free", "saba", "sama", "sl_bamm", "spaba", "srba", "stocbio", "sustain", "ttsa", "vrbo",
]  # fmt: skip
SPEED_NAMES = ["quadratic", "hyper_cleaning"]  # calls do not depend on the problem, and seconds take long to measure
STEPS = 20  # asv makes one call a sample where there is a setup, and one step is too short for a clock


class _Step:
    """A solver on a problem, both with their default knobs."""

    params = (SPEED_NAMES, SOLVER_NAMES)
    param_names = ("problem", "solver")
    timeout = 120
    version = "1"

    def setup(self, problem: str, solver: str) -> None:
        if problem not in PROBLEMS.names() or solver not in SOLVERS.names():
            raise NotImplementedError("not in this commit")  # asv's word for n/a
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json
        self.problem, self.solver = build_problem(problem, Draw(0)), make_solver(solver)
        try:
            require(self.solver, self.problem)
        except Unsupported as reason:
            raise NotImplementedError(str(reason)) from None

    def step(self, steps: int) -> tuple[Oracle, State]:
        """The first steps from the problem's start."""
        oracle = Oracle(self.problem)
        state = start(self.solver, self.problem, oracle)
        oracle.calls.clear()  # what a start asks is not a step's
        for k in range(steps):
            oracle.begin(k)
            state = self.solver.step(oracle, state)
        return oracle, state


class Calls(_Step):
    """Oracle calls of a step: values, gradients and second-order products count one each."""

    unit = "calls"

    def track_calls_per_step(self, problem: str, solver: str) -> float:
        oracle, _ = self.step(STEPS)
        return total(oracle.calls) / STEPS


class Memory(_Step):
    """Peak of live tensor bytes beyond the problem's data."""

    params = (PROBLEM_NAMES, SOLVER_NAMES)
    unit = "bytes"

    def track_peak_bytes(self, problem: str, solver: str) -> int:
        return peak(self.problem, self.solver)["peak_bytes"]


class Time(_Step):
    """Wall seconds of twenty steps. Identical code differed by a factor of 2 to 3 on a shared machine."""

    rounds = 2
    warmup_time = 0.1
    repeat = (2, 5, 2.0)  # least, most, seconds

    def time_steps(self, problem: str, solver: str) -> None:
        self.step(STEPS)
