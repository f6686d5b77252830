"""What a step takes: as a ratio to its floor, which a busy machine leaves alone, and in CPU seconds, to be watched."""

import time

import torch

from bilevelbench.asv.exact import STEPS, Step
from bilevelbench.asv.names import FEW_SOLVERS, SOLVER_NAMES, SPEED_NAMES, chosen
from bilevelbench.core.draw import Draw
from bilevelbench.core.resolve import build_problem
from bilevelbench.measure.clock import drain
from bilevelbench.measure.ratio import floor_of, paired, steps_of

ROUNDS = 15


class Floor(Step):
    """Seconds of a step over those of its floor by the eager engine, in one process: see ``measure.ratio.floor_of``."""

    params = (SPEED_NAMES, chosen(FEW_SOLVERS, SOLVER_NAMES))
    unit = "ratio"
    version = "3"  # 1: over bare derivatives that kept no graph, for every solver; 2: with the start of the solver

    def track_step_over_floor(self, problem: str, solver: str) -> float:
        steps, floor = steps_of(self.problem, self.solver, 4, begun=True), floor_of(self.problem, self.solver, 4)
        return paired(steps, floor, ROUNDS).median


class Time(Step):
    """CPU seconds of twenty steps: on one commit they lay 1.3 to 1.7 times apart, those of the wall 5 to 16 times."""

    params = (SPEED_NAMES, chosen(FEW_SOLVERS, SOLVER_NAMES))
    timer = time.process_time
    version = "2"  # 1: seconds of the wall
    rounds = 2
    warmup_time = 0.1
    repeat = (2, 5, 2.0)  # least, most, seconds

    def time_step(self, problem: str, solver: str) -> None:
        self.step(STEPS)


class OnGpu(Step):
    """Wall seconds of twenty steps on the GPU, after it has done its work; n/a where there is none."""

    params = (["hyper_cleaning"], ["bome", "itd"])
    version = "1"
    rounds = 2
    warmup_time = 0.1
    repeat = (2, 5, 2.0)

    def setup(self, problem: str, solver: str) -> None:
        if not torch.cuda.is_available():
            raise NotImplementedError("this machine has no CUDA device")
        super().setup(problem, solver)
        self.problem = build_problem(problem, Draw(0, "cuda"))

    def time_step(self, problem: str, solver: str) -> None:
        self.step(STEPS)
        drain("cuda")()
