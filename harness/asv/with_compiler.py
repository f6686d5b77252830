"""What the engines gain over eager steps, as ratios. Both sides are measured in one process, interleaved.

asv comes to this file last, and to its benchmarks under BILEVELBENCH_ASV=all alone: compiling takes 10 to 30 s a step.

python -m bilevelbench.asv.with_compiler walk [PROBLEM ...]      graph against eager, numbers and counts
python -m bilevelbench.asv.with_compiler compiled PROBLEM [SOLVER ...]    compiled step over eager step
python -m bilevelbench.asv.with_compiler batched PROBLEM [SOLVER ...]     a step of 256 seeds over an eager step of one
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bilevelbench.asv.command import obeyed
from bilevelbench.asv.names import PROFILE
from bilevelbench.core import functional
from bilevelbench.core.draw import Draw
from bilevelbench.core.engines import driven
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Solver, require, start
from bilevelbench.run.together import Oracles, Together

SEEDS = 256
ROUNDS = 9


class Stepper:
    """A run that can be stepped on; ``seconds`` are CPU seconds of ``n`` further steps."""

    def __init__(self, solver: Any, o: Oracle, state: Any) -> None:
        self.solver, self.o, self.state, self.k = solver, o, state, 0

    def seconds(self, n: int) -> float:
        """Take n steps."""
        begin = time.process_time()
        for _ in range(n):
            self.o.begin(self.k)
            self.state = self.solver.step(self.o, self.state)
            self.k += 1
        return time.process_time() - begin


def eager(problem: Problem, solver: Solver) -> Stepper:
    """Plain steps."""
    o = Oracle(problem)
    return Stepper(solver, o, start(solver, problem, o))


def compiled(problem: Problem, solver: Solver) -> Stepper:
    """Compiled steps."""
    o, made = Oracle(problem), driven("compiled", solver, problem)
    return Stepper(made, o, start(made, problem, o))


def batched(problem: str, solver: Solver, seeds: int) -> Stepper:
    """Steps of many seeds."""
    draws = [Draw(seed) for seed in range(seeds)]
    problems = [build_problem(problem, rng) for rng in draws]
    o, made = Oracles(problems, range(seeds)), Together(solver, problems, [rng.data for rng in draws])
    return Stepper(made, o, made.start(o))


def ratio(one: Stepper, other: Stepper, steps: int = 20, rounds: int = ROUNDS) -> float:
    """Seconds of one over those of the other: the median over interleaved rounds, after one of warm-up."""
    found = [one.seconds(steps) / other.seconds(steps) for _ in range(rounds + 1)]
    return statistics.median(found[1:])


def over_eager(problem: str, solver: str, engine: str, seeds: int = SEEDS, steps: int = 20) -> float:
    """A compiled step, or one of many seeds, over an eager step of one seed."""
    made, made_solver = build_problem(problem, Draw(0)), make_solver(solver)
    require(made_solver, made)
    other = batched(problem, made_solver, seeds) if engine == "batched" else compiled(made, made_solver)
    return ratio(other, eager(made, made_solver), steps)


class Engines:
    """Ratios for BOME and ITD; lists that only grow, so that asv's indices keep their meaning."""

    params = (["coreset", "quadratic", "quadratic(d=100)", "hyper_cleaning"], ["bome(T=10)", "itd(T=10)"])
    param_names = ("problem", "solver")
    timeout = 600
    version = "1"

    def setup(self, problem: str, solver: str) -> None:
        if PROFILE != "all":
            raise NotImplementedError("BILEVELBENCH_ASV=all compiles")
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json

    def track_compiled_over_eager(self, problem: str, solver: str) -> float:
        """Seconds of a compiled step over those of an eager one."""
        return over_eager(problem, solver, "compiled")

    def track_seeds_over_one(self, problem: str, solver: str) -> float:
        """Seconds of a step of 256 seeds together over those of an eager step of one.

        Large where each seed has matrices of its own that do not fit the cache: 256 of 100 x 100 numbers are 20 MB, and
        a step of BOME reads them 23 times. On the machine where this was written the bare products of such a step
        (torch.bmm) took 51 eager steps of the 59 measured, and 39 in blocks of seeds that fit the cache. There compiled
        steps of one seed after the other are faster: 256 times 0.06.
        """
        if problem == "hyper_cleaning":
            return float("nan")  # 256 copies of the data: batching gains nothing there
        return over_eager(problem, solver, "batched", steps=5)

    track_compiled_over_eager.unit = track_seeds_over_one.unit = "ratio"  # type: ignore[attr-defined]


def walk(problem: Problem, solver: Solver, steps: int = 3) -> str:
    """How far the functional and the compiled engine are from the eager one, in numbers and counts."""
    lines = []
    first = eager(problem, solver)
    first.seconds(steps)
    o = Oracle(problem, 0, functional)
    others: list[tuple[str, Callable[[], Stepper]]] = [
        ("functional", lambda: Stepper(solver, o, start(solver, problem, o))),
        ("compiled", lambda: compiled(problem, solver)),
    ]
    for name, make in others:
        try:
            other = make()
            begin = sum(os.times()[:4])  # CPU seconds, those of the C++ compiler included
            other.seconds(steps)
        except Unsupported as reason:
            lines.append(f"{name} unsupported: {reason}")
            continue
        apart = max(
            float((a - b).abs().max() / (1 + b.abs().max()))
            for a, b in zip(tree_leaves(other.state), tree_leaves(first.state), strict=True)
            if isinstance(b, torch.Tensor) and b.numel()
        )
        counts = "equal" if (other.o.calls, other.o.rows) == (first.o.calls, first.o.rows) else "DIFFERENT"
        lines.append(f"{name} {apart:.0e}, counts {counts}, {sum(os.times()[:4]) - begin:.1f} s")
    return "; ".join(lines)


def main() -> None:
    """Print a line per solver as it is measured."""
    torch.set_num_threads(1)
    what, *names = sys.argv[1:] or [""]
    if what not in ("walk", "compiled", "batched") or (what != "walk" and not names):
        raise RequestError("say `walk [PROBLEM ...]`, or `compiled` or `batched`, a problem, and solvers if not all")
    if what == "walk":
        for text in names or ["quadratic(d=4)", "bounded_sine"]:
            problem = build_problem(text, Draw(0))
            for name in SOLVERS.names():
                try:
                    require(make_solver(name), problem)
                    print(f"{text} {name:16} {walk(problem, make_solver(name))}", flush=True)
                except Unsupported as reason:
                    print(f"{text} {name:16} {reason}", flush=True)
        return
    problem_text, *solvers = names
    for name in solvers or SOLVERS.names():
        try:
            found = f"{over_eager(problem_text, name, what):.3f}"
        except Unsupported as reason:
            found = str(reason)
        print(f"{problem_text} {name:20} {what} / eager  {found}", flush=True)


if __name__ == "__main__":
    obeyed(main)
