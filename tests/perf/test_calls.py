"""The gate on oracle calls per step: exact, the same on every machine. Seconds are recorded beside it, never judged.

The counts are what each solver declares (``calls``), written down from its paper's algorithm, at the default knobs.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from bilevelbench import Oracle, make_solver
from bilevelbench.contract.cost import declared
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core.door import WORTH, total
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start

ROUNDS = 5

# Ours only: other tests and other people's packages register solvers too.
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]


@pytest.mark.parametrize("name", NAMES)
def test_calls_per_step(name, benchmark):
    problem, solver = finite_sum(quadratic()), make_solver(name)
    assert solver.calls, f"the solver {name!r} declares no calls; say what one step asks of the oracle, from the paper"
    bounds = declared(solver, problem)
    oracle = Oracle(problem)
    state = start(solver, problem, oracle)
    made = []

    def step():
        nonlocal state
        oracle.begin(len(made))
        before = Counter(oracle.calls)
        state = solver.step(oracle, state)
        made.append({kind: n for kind, n in (oracle.calls - before).items() if WORTH[kind]})

    benchmark.pedantic(step, rounds=ROUNDS, iterations=1, warmup_rounds=1)
    assert made
    found = ", ".join(f"{n} {kind}" for kind, n in sorted(made[-1].items()))
    fits = all(set(seen) <= set(bounds) for seen in made) and all(
        low <= seen.get(kind, 0) <= high for seen in made for kind, (low, high) in bounds.items()
    )
    benchmark.extra_info.update(
        solver=name, layer="calls", passed=fits, found=found, expected=solver.calls, total=total(made[-1])
    )
    for seen in made:
        assert set(seen) <= set(bounds), f"asks for {sorted(set(seen) - set(bounds))}, declares {solver.calls}"
        for kind, (low, high) in bounds.items():
            assert low <= seen.get(kind, 0) <= high, f"{seen.get(kind, 0)} {kind}, declared are {low} to {high}"


def test_benchmarks_are_on_in_ci(pytestconfig):
    """A gate that was switched off must not pass."""
    off = [flag for flag in ("benchmark_disable", "benchmark_skip") if pytestconfig.getoption(flag)]
    assert not (off and os.environ.get("CI") == "true"), f"{off} is set: the gate on oracle calls would not be run"


@pytest.mark.parametrize("flag", ["--benchmark-disable", "--benchmark-skip"])
def test_ci_fails_without_benchmarks(flag):
    node = f"{__file__}::{test_benchmarks_are_on_in_ci.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", flag, node]
    env = {**os.environ, "CI": "true", "PYTEST_ADDOPTS": ""}  # inherited arguments could name this test again
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "would not be run" in run.stdout
