"""What the harness and the solver's own arithmetic add to the gradients that must be computed, as ratios.

Both sides of a ratio are measured in one process, interleaved, so a busy machine slows both alike.

    python -m bilevelbench.asv.overhead "hyper_cleaning(data='mnist')" [SOLVER ...]

prints both ratios for the named solvers or for all.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import WORTH, Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS, build_problem, make_solver
from bilevelbench.core.solver import Solver, require, start
from bilevelbench.run.budget import Budget
from bilevelbench.run.clock import Stopwatch
from bilevelbench.run.trace import trace

ROUNDS = 9
STEPS = {"quadratic": 100, "hyper_cleaning": 20}  # about as long: a step of the second costs about five of the first


class Recording(Oracle):
    """An oracle that keeps every question with its arguments."""

    asked: list[tuple[str, tuple[Any, ...]]]

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if not WORTH.get(name):
            return method

        def recorded(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            return method(*arguments)

        return recorded


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
    list(trace(problem, solver, 0, Budget(steps=steps), lambda x, y: {"phi": 0.0}, watch, False))
    return watch.cpu_seconds


def bare(problem: Problem) -> dict[str, Callable[..., Any]]:
    """The derivative behind every kind of question about the objectives, without oracle."""
    answers: dict[str, Callable[..., Any]] = {"d2g_yx": partial(derive.cross_transposed, problem.g)}
    for name, fn in (("f", problem.f), ("g", problem.g)):
        answers[name] = partial(derive.value, fn)
        answers[f"d{name}"] = partial(derive.grad, fn)
        answers[f"d{name}_x"] = partial(derive.grad_x, fn)
        answers[f"d{name}_y"] = partial(derive.grad_y, fn)
        answers[f"d2{name}"] = partial(derive.second, fn)
        answers[f"d2{name}_xy"] = partial(derive.second, fn, wrt="x")
        answers[f"d2{name}_yy"] = partial(derive.second, fn, wrt="y")
    return answers


def floor(problem: Problem, asked: list[tuple[str, tuple[Any, ...]]]) -> float:
    """CPU seconds of the derivatives alone, the same questions at the same points, without oracle and solver."""
    answers = bare(problem)
    begin = time.process_time()
    for kind, arguments in asked:
        answers[kind](*arguments)
    return time.process_time() - begin


def ratios(problem_text: str, solver_text: str, steps: int) -> tuple[float, float]:
    """(harness over bare loop, bare loop over floor): medians over interleaved rounds, after one of warm-up."""
    problem, solver = build_problem(problem_text, Draw(0)), make_solver(solver_text)
    require(solver, problem)
    recording = Recording(problem, 0)
    recording.asked = []
    state = start(solver, problem, recording)
    recording.asked.clear()  # what a start asks is not a step's
    for k in range(steps):
        recording.begin(k)
        state = solver.step(recording, state)
    over_loop, over_floor = [], []
    for _ in range(ROUNDS + 1):
        recorded = harness(problem, solver, steps)
        looped = bare_loop(problem, solver, steps)
        over_loop.append(recorded / looped)
        over_floor.append(looped / floor(problem, recording.asked))
    return statistics.median(over_loop[1:]), statistics.median(over_floor[1:])


class Overhead:
    """Ratios for BOME and ITD; a list that only grows, so that asv's indices keep their meaning."""

    params = (["quadratic", "hyper_cleaning"], ["bome(T=10)", "itd(T=10)"])
    param_names = ("problem", "solver")
    timeout = 300
    version = "1"

    def setup(self, problem: str, solver: str) -> None:
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json

    def track_harness_over_loop(self, problem: str, solver: str) -> float:
        """Seconds that the harness records over those of a bare loop."""
        return ratios(problem, solver, STEPS[problem])[0]

    def track_loop_over_floor(self, problem: str, solver: str) -> float:
        """Seconds of a bare loop over those of the derivatives that it must compute."""
        return ratios(problem, solver, STEPS[problem])[1]

    track_harness_over_loop.unit = track_loop_over_floor.unit = "ratio"  # type: ignore[attr-defined]


def main() -> None:
    """Print both ratios, a line per solver as it is measured."""
    torch.set_num_threads(1)
    problem, *names = sys.argv[1:]
    print(f"{'solver':20} harness/loop  loop/floor   on {problem}")
    for name in names or SOLVERS.names():
        try:
            over_loop, over_floor = ratios(problem, name, STEPS.get(problem.partition("(")[0], 20))
            print(f"{name:20} {over_loop:12.3f}  {over_floor:10.3f}", flush=True)
        except Unsupported as reason:
            print(f"{name:20} {reason}", flush=True)


if __name__ == "__main__":
    main()
