"""What the harness and the oracle add to a step, as ratios: over a bare loop, and over its floor (``measure.ratio``).

Both sides of a ratio are measured in one process, interleaved, so a busy machine slows both alike.

    python -m bilevelbench.asv.overhead "hyper_cleaning(data='mnist')" [SOLVER ...]

prints both ratios for the named solvers or for all, and first what the harness adds to steps that do nothing, which a
busy machine does not drown.
"""

import statistics
import sys
import time
from typing import Any

import torch

from bilevelbench.asv.command import obeyed
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, Solver, require, start
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.ratio import floor_of
from bilevelbench.measure.trace import trace
from bilevelbench.solvers.lower_only import LowerOnly

ROUNDS = 9
STEPS = {"quadratic": 100, "hyper_cleaning": 20}  # about as long: a step of the second costs about five of the first


def bare_loop(problem: Problem, solver: Solver, steps: int) -> float:
    """CPU seconds of plain steps over an oracle."""
    oracle = Oracle(problem, 0)
    state = start(solver, problem, oracle)
    begin = time.process_time()
    for k in range(steps):
        oracle.begin(k)
        state = solver.step(oracle, state)
    return time.process_time() - begin


def harness(problem: Problem, solver: Solver, steps: int) -> float:
    """CPU seconds that the harness records for the same steps."""
    watch = Stopwatch(lambda: None)
    list(trace(problem, solver, 0, Budget(steps=steps), lambda x, y, step, last: {"phi": 0.0}, watch, False))
    return watch.cpu_seconds


class Nothing(LowerOnly):
    """Steps that do nothing, so that what the harness adds to steps is all there is to see."""

    def step(self, o: Oracle, s: Point) -> Point:
        """The state as it is."""
        return s


def added(steps: int = 700) -> float:
    """CPU seconds that the harness records beyond a bare loop of so many steps: the median of 21 differences."""
    problem = build_problem("quadratic", Draw(0))
    nothing: Any = Nothing()
    pairs = [(harness(problem, nothing, steps), bare_loop(problem, nothing, steps)) for _ in range(21)]
    return statistics.median(recorded - looped for recorded, looped in pairs)


def ratios(problem_text: str, solver_text: str, steps: int) -> tuple[float, float]:
    """(harness over bare loop, bare loop over floor): medians over interleaved rounds, after one of warm-up."""
    problem, solver = build_problem(problem_text, Draw(0)), make_solver(solver_text)
    require(solver, problem)
    floor = floor_of(problem, solver, steps)
    over_loop, over_floor = [], []
    for _ in range(ROUNDS + 1):
        recorded = harness(problem, solver, steps)
        looped = bare_loop(problem, solver, steps)
        over_loop.append(recorded / looped)
        begin = time.process_time()
        floor()
        over_floor.append(looped / (time.process_time() - begin))
    return statistics.median(over_loop[1:]), statistics.median(over_floor[1:])


class Overhead:
    """Ratios for BOME and ITD; a list that only grows, so that asv's indices keep their meaning."""

    params = (["quadratic", "hyper_cleaning"], ["bome(T=10)", "itd(T=10)"])
    param_names = ("problem", "solver")
    timeout = 300
    version = "2"  # 1: over the bare derivatives, for every solver

    def setup(self, problem: str, solver: str) -> None:
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json

    def track_harness_over_loop(self, problem: str, solver: str) -> float:
        """Seconds that the harness records over those of a bare loop."""
        return ratios(problem, solver, STEPS[problem])[0]

    def track_loop_over_floor(self, problem: str, solver: str) -> float:
        """Seconds of a bare loop over those of its floor."""
        return ratios(problem, solver, STEPS[problem])[1]

    track_harness_over_loop.unit = track_loop_over_floor.unit = "ratio"  # type: ignore[attr-defined]


def main() -> None:
    """Print both ratios, a line per solver as it is measured."""
    torch.set_num_threads(1)
    problem, *names = sys.argv[1:] or [""]
    if not problem:
        raise RequestError("name a problem, such as quadratic, then solvers if not all")
    print(f"the harness adds {added() * 1e6:.0f} us to 700 steps")
    print(f"{'solver':20} harness/loop  loop/floor   on {problem}")
    for name in names or SOLVERS.names():
        try:
            over_loop, over_floor = ratios(problem, name, STEPS.get(problem.partition("(")[0], 20))
            print(f"{name:20} {over_loop:12.3f}  {over_floor:10.3f}", flush=True)
        except Unsupported as reason:
            print(f"{name:20} {reason}", flush=True)


if __name__ == "__main__":
    obeyed(main)
