"""What judging costs beside solving: CPU seconds of both within one run, medians over rounds that take turns.

    OMP_NUM_THREADS=1 python -m tests.campaigns.price_of_judging [STEPS] [ROUNDS] [PROBLEM...]

PROBLEMs are texts such as my_file.py or `network: dense, 1e4`; without any, all networks of ``WIDE``. Solvers: bome and
soba. A run has a plan by its steps, as with `bilevelbench run --steps STEPS`. At most 1 is aimed at.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, build_problem, make_solver
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import planned
from bilevelbench.measure.trace import trace
from tests.campaigns.networks import WIDE, network

SIBLING = "test_judging_is_timed_apart_from_solving"

SOLVERS = ("bome(lr=0.01,lr_inner=0.1,lr_y=0.1,T=5)", "soba(lr=0.01,lr_inner=0.1)")


class Timed:
    """A judge that notes its CPU seconds, and at how many looks it was due and had a phi."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self.seconds, self.due, self.with_phi = judge, 0.0, 0, 0
        self.unjudged, self.why = "", ""

    def __call__(self, x: Tensor, y: Tensor, step: int, last: bool) -> dict[str, float]:
        """The judge's figures."""
        begun = time.process_time()
        found = self._judge(x, y, step, last)
        self.seconds += time.process_time() - begun
        self.unjudged = self._judge.unjudged
        self.due += "phi" in found or bool(self.unjudged)
        self.with_phi += "phi" in found
        self.why = self.unjudged or self.why
        return found


def once(problem: Problem, solver: str, steps: int) -> tuple[float, float, Timed]:
    """(CPU seconds of judging, of solving, the judge) of one run."""
    budget = Budget(steps=steps)
    judge = Timed(Judge(problem, planned(problem, budget)))
    begun = time.process_time()
    for _ in trace(problem, make_solver(solver), 0, budget, judge, Stopwatch(lambda: None), False):
        pass
    return judge.seconds, time.process_time() - begun - judge.seconds, judge


def built(text: str) -> Problem:
    """The problem that a text names, one of the networks among them."""
    return network(text.removeprefix("network: ")) if text.startswith("network: ") else build_problem(text, Draw(0))


def main() -> None:
    """Print a line for each problem and solver."""
    words: list[Any] = sys.argv[1:]
    steps, rounds = int(words[0]) if words else 60, int(words[1]) if len(words) > 1 else 5
    texts = words[2:] or [f"network: {name}" for name in WIDE]
    problems = {text: built(text) for text in texts}
    once(built("network: tanh"), SOLVERS[1], 2)  # what torch imports within its first second-order product
    seen: dict[tuple[str, str], list[tuple[float, float, Timed]]] = {}
    for _ in range(rounds):
        for text, problem in problems.items():
            for solver in SOLVERS:
                seen.setdefault((text, solver), []).append(once(problem, solver, steps))
    for (text, solver), found in seen.items():
        ratios = sorted(judging / solving for judging, solving, _ in found)
        judge = found[-1][2]
        print(
            f"{text}, n_y {problems[text].y0.numel()}, {solver}: judging over solving {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), phi at {judge.with_phi} of {judge.due} looks. {judge.why}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
