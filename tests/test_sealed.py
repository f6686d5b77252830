"""A solver cannot get more than it is charged for: every planted evasion is found, by the guard that it is meant for.

Each is run as a run is: warmed up, timed with all that is held against it at looks, and made again in part by a process
that has made none of it.
"""

import contextlib
import time
from pathlib import Path

import pytest
import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.meter import Meter
from bilevelbench.core.registry import build_problem, make_solver
from bilevelbench.measure.audit import replay
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.marks import Marks, windows
from bilevelbench.measure.trace import trace, warm_up
from tests.evasive_solvers import EVASIONS
from tests.forked import forked

FILE = Path(__file__).with_name("evasive_solvers.py")
PROBLEMS = {"past_a_projection": "box_quadratic(d=4)"}


def built(name):
    draw = Draw(0)
    return build_problem(PROBLEMS.get(name, "quadratic(d=4)"), draw), make_solver(f"{FILE}:{name}"), draw


def judge(x, y):
    time.sleep(0.01)  # long enough for a timer
    return {"phi": 0.0}


def timed(name, states, steps=4):
    """The last row of a run, and the counts of its first."""
    problem, solver, _ = built(name)
    with contextlib.suppress(BaseException):  # the run meets it again
        warm_up(problem, solver, 0, lambda: None)
    watch = Stopwatch(lambda: None)
    rows = list(trace(problem, solver, 0, Budget(steps=steps), judge, watch, False, meter=Meter(), marks=Marks(states)))
    return rows[-1], rows[0]


def audited(name, states):
    problem, solver, draw = built(name)
    return replay(problem, solver, 0, states, windows(states)[-1], draw.data)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """The first gradient of a process imports for seconds: not in every fork."""
    torch.autograd.grad(torch.ones(1, requires_grad=True).sum(), (leaf := torch.ones(1, requires_grad=True),), allow_unused=True)
    problem, solver, _ = built("public_counters")
    warm_up(problem, solver, 0, lambda: None)


@pytest.mark.parametrize("name", EVASIONS)
def test_an_evasion_is_found(name, tmp_path, monkeypatch):
    guard, words = EVASIONS[name]
    (tmp_path / "known").write_text("y")
    monkeypatch.setattr("tests.evasive_solvers.SCRATCH", tmp_path)
    monkeypatch.setenv("EVASIVE_SCRATCH", str(tmp_path))
    last, _ = forked(timed, name, tmp_path / "states")
    if guard == "look":
        assert last.status == "error", last
        assert words in last.reason
        assert last.fault == "solver"
        return
    assert last.status == "done", f"{last.reason} (meant for the audit)"
    found = forked(audited, name, tmp_path / "states")
    assert not found["ok"]
    assert words in found["reason"]
    assert found["fault"] == "solver"
