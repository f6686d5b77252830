"""Steps of a solver for pytest-benchmark: real rounds, in CPU seconds, with what is exact beside them.

    @pytest.mark.benchmark(timer=time.process_time)
    @pytest.mark.parametrize("problem", ["quadratic(d=100)", "my_problem.py"])
    def test_steps(problem, benchmark):
        steps("my_solver.py", problem, benchmark)

A round is a block of steps from the problem's start; a group is a problem. ``extra_info`` has calls a step, bytes and
the ratio to the floor with its interval: these compare across machines, seconds do not. So that they are compared on
one machine alone, a conftest.py says which that is:

    def pytest_benchmark_update_machine_info(machine_info):
        machine_info["identity"] = identity()
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import require
from bilevelbench.measure.env import environment
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import step_over_floor, steps_of

from .cost import asked

STEPS = 10  # of a round


def steps(name: str, problem: str, benchmark: Any) -> None:
    """Measure a solver's first steps on a problem. ``benchmark`` is pytest-benchmark's fixture."""
    p, solver = build_problem(problem, Draw(0)), make_solver(name)
    require(solver, p)
    ratio = step_over_floor(p, solver, rounds=9)
    calls = sum(map(total, asked(solver, p, STEPS))) / STEPS
    benchmark.group = problem
    benchmark.extra_info.update(
        solver=name, problem=problem, calls=calls, bytes=peak(p, solver)["peak_bytes"],
        ratio=ratio.median, interval=ratio,
    )  # fmt: skip
    benchmark(steps_of(p, solver, STEPS))


def identity() -> dict[str, Any]:
    """What a machine is: processor, cores, and the milliseconds of CPU that a fixed piece of work takes."""
    found = environment("cpu")
    return {"cpu": found["cpu"], "cores": found["cores"], "calibration": round(1e3 * calibration(), 2)}


def calibration() -> float:
    """CPU seconds of small products in a Python loop, as a step is made of: the median of nine."""
    matrix = torch.linspace(0, 1, 2500, dtype=torch.float64).reshape(50, 50)

    def once() -> float:
        begin = time.process_time()
        vector = torch.ones(50, dtype=torch.float64)
        for _ in range(1000):
            vector = matrix @ vector
            vector = vector / vector.norm()
        return time.process_time() - begin

    return statistics.median(once() for _ in range(9))
