"""The gate on oracle calls per step: exact, the same on every machine. Seconds are recorded beside it, never judged.

The counts are those of the papers' algorithms for the default knobs, worked out by hand, not read off the code.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from bilevelbench import Draw, Oracle, build_problem, make_solver
from bilevelbench.core.oracle import total
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start

# T = K = 10 (V-PBGD: T = 1). dg and df give both partial gradients in one answer, d2g both second-order products.
CALLS = {
    "bome": {"dg_y": 10, "dg": 1, "dg_x": 1, "df": 1},  # T + 2 gradients of g, one of f
    "penalty": {"dg_y": 11, "df_y": 10, "df_x": 1, "d2g_yy": 10, "d2g_xy": 1},  # T times g, f and H; once g, f and C
    "itd": {"dg_y": 10, "df": 1, "d2g": 10},  # T forward, T pairs of products backward
    "aid_cg": {"dg_y": 10, "df": 1, "d2g_yy": 10, "d2g_xy": 1},  # K Hessian products, one cross product
    "aid_neumann": {"dg_y": 10, "df": 1, "d2g_yy": 9, "d2g_xy": 1},  # K terms of the series are K - 1 products
    "vpbgd": {"dg_y": 1, "dg": 1, "dg_x": 1, "df": 1},  # T + 2 gradients of g, one of f
    "f2sa": {"dg_y": 20, "df_y": 10, "df_x": 1, "dg_x": 2},  # 2 T + 2 gradients of g, T + 1 of f
    "soba": {"dg_y": 1, "df": 1, "d2g": 1},  # one of each
    "first_order": {"dg_y": 10, "df_x": 1},
}
ROUNDS = 5

# Ours only: other tests and other people's packages register solvers too.
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]


@pytest.mark.parametrize("name", NAMES)
def test_calls_per_step(name, benchmark):
    assert name in CALLS, (
        f"the solver {name!r} has no entry in CALLS of tests/perf/test_calls.py: "
        "add how often one step with default knobs asks the oracle for each kind, counted from the paper"
    )
    problem, solver = build_problem("quadratic", Draw(0)), make_solver(name)
    oracle = Oracle(problem)
    state = start(solver, problem, oracle)
    made = []

    def step():
        nonlocal state
        oracle.begin(len(made))
        before = Counter(oracle.calls)
        state = solver.step(oracle, state)
        made.append(dict(oracle.calls - before))

    benchmark.extra_info.update(CALLS[name], total=total(CALLS[name]))
    benchmark.pedantic(step, rounds=ROUNDS, iterations=1, warmup_rounds=1)
    assert made == [CALLS[name]] * len(made)
    assert made


def test_every_entry_is_a_solver():
    assert sorted(CALLS) == NAMES


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
