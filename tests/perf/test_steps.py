"""Real rounds of real steps, for those who compare seconds on a machine of their own; nothing here fails on a second.

pytest tests/perf/test_steps.py --benchmark-autosave; pytest tests/perf/test_steps.py --benchmark-compare
"""

import json
import os
import statistics
import subprocess
import sys
import time

import pytest

from bilevelbench.contract.steps import calibration, steps


@pytest.mark.benchmark(timer=time.process_time, max_time=0.2, min_rounds=5, warmup=True, warmup_iterations=1)
@pytest.mark.parametrize("problem", ["quadratic(d=100)", "hyper_cleaning"])
@pytest.mark.parametrize("name", ["bome", "itd", "aid_cg", "soba", "penalty", "f2sa"])
def test_steps(name, problem, benchmark):
    steps(name, problem, benchmark)
    assert benchmark.extra_info["calls"] > 0
    assert benchmark.extra_info["bytes"] > 0


def test_a_calibration_is_a_property_of_the_machine():
    """Of six medians the middle ones lie near each other, whatever else the machine does."""
    found = sorted(calibration() for _ in range(6))
    assert 0 < found[1] <= found[4] < 3 * found[1]
    assert statistics.median(found) > 1e-4


MINE = """
import time

import pytest

from bilevelbench.contract.steps import identity, steps


@pytest.mark.benchmark(timer=time.process_time, max_time=0.05, min_rounds=5)
@pytest.mark.parametrize("problem", ["quadratic(d=3)", "quadratic(d=4)"])
def test_mine(problem, benchmark):
    steps("first_order", problem, benchmark)
"""


def test_what_users_of_pytest_benchmark_do_works(tmp_path):
    """Save, compare with what was saved, fail on a figure of theirs, JSON with groups and extra_info, xdist."""
    (tmp_path / "test_mine.py").write_text(MINE)
    (tmp_path / "conftest.py").write_text(
        "from bilevelbench.contract.steps import identity\n\n\n"
        "def pytest_benchmark_update_machine_info(machine_info):\n    machine_info['identity'] = identity()\n"
    )
    env = {**os.environ, "PYTEST_ADDOPTS": ""}

    def pytest_(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py", *options]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)

    saved = pytest_("--benchmark-autosave", "--benchmark-json", "out.json")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert {bench["group"] for bench in found["benchmarks"]} == {"quadratic(d=3)", "quadratic(d=4)"}
    for bench in found["benchmarks"]:
        assert bench["options"]["timer"] == "process_time"
        assert bench["stats"]["rounds"] >= 5
        assert {"calls", "bytes", "ratio", "interval"} <= set(bench["extra_info"])
    assert {"cpu", "cores", "calibration"} == set(found["machine_info"]["identity"])
    compared = pytest_("--benchmark-compare", "--benchmark-compare-fail=median:10000%", "-n", "0")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "0001_" in compared.stdout, "both are in the table"
