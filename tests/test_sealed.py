"""A solver cannot get more than it is charged for: every planted evasion is found, by the guard that it is meant for.

Each is run as a run is: warmed up, timed with all that is held against it at looks, and made again in part by a process
that has made none of it.
"""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bilevelbench.core.draw import Draw
from bilevelbench.core.meter import Meter
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point
from bilevelbench.measure.audit import replay
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.intact import Intact
from bilevelbench.measure.marks import Marks
from bilevelbench.measure.trace import trace, warm_up
from bilevelbench.measure.windows import windows
from tests.evasions import EVASIONS
from tests.forked import forked

FILE = Path(__file__).with_name("evasive_solvers.py")
PROBLEMS = {"past_a_projection": "box_quadratic(d=4)"}


def built(name):
    draw = Draw(0)
    return build_problem(PROBLEMS.get(name, "quadratic(d=4)"), draw), make_solver(f"{FILE}:{name}"), draw


def honest():
    return build_problem("quadratic(d=4)", Draw(0)), make_solver("first_order")


def judge(x, y, *look):
    time.sleep(0.01)  # long enough for a timer
    return {"phi": 0.0}


def timed(name, states, steps=4):
    """The last row of a run, and the counts of its first."""
    intact = Intact()
    problem, solver, _ = built(name)
    intact.settle()
    with contextlib.suppress(BaseException):  # the run meets it again
        warm_up(problem, solver, 0, lambda: None)
    watch = Stopwatch(lambda: None)
    held = {"meter": Meter(), "marks": Marks(states), "intact": intact}
    rows = list(trace(problem, solver, 0, Budget(steps=steps), judge, watch, False, **held))
    return rows[-1], rows[0]  # the same one where a solver is found out before it begins


def audited(name, states):
    problem, solver, draw = built(name)
    return replay(problem, solver, 0, states, windows(states)[-1], draw.data)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """The first gradient of a process imports for seconds: not in every fork."""
    problem, solver = honest()
    warm_up(problem, solver, 0, lambda: None)


@pytest.mark.parametrize("name", EVASIONS)
def test_an_evasion_is_found(name, tmp_path, monkeypatch):
    guard, words = EVASIONS[name]
    (tmp_path / "known").write_text("y")
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


def test_what_is_shown_to_be_written_to_is_a_copy(tmp_path):
    last, _ = forked(timed, "public_counters", tmp_path)
    assert last.status == "done"
    assert last.calls == {"df_x": 4, "dg_y": 80}
    assert forked(audited, "public_counters", tmp_path)["ok"]


def test_work_in_init_is_in_the_first_row(tmp_path):
    last, first = forked(timed, "in_init", tmp_path)
    assert (first.step, first.calls, first.total_calls) == (0, {"dg_y": 20}, 20)
    assert first.seconds > 0
    assert last.calls == {"df_x": 4, "dg_y": 20}
    assert forked(audited, "in_init", tmp_path)["ok"]


def test_what_is_done_when_a_state_is_freed_is_counted_or_found(tmp_path):
    """It is freed in the next step, on the clock, or between steps."""
    last, _ = forked(timed, "when_it_is_freed", tmp_path)
    if last.status == "error":
        assert "after a step was over" in last.reason
    else:
        assert last.calls["dg_y"] > 2 * 4


def test_a_problem_may_have_threads(tmp_path):
    """Its own functions do as they like: a pool that begins with the first gradient is not the solver's."""

    def run():
        intact = Intact()
        problem, solver = honest()
        with ThreadPoolExecutor(1) as pool:
            slow = replace(problem, g=lambda x, y: pool.submit(int).result() + problem.g(x, y))
            warm_up(slow, solver, 0, lambda: None)
            return run_of(slow, solver, intact=intact)

    assert forked(run).status == "done"


# -- whose fault it was


def run_of(problem, solver, judge=lambda x, y, *look: {"phi": 0.0}, **held):
    *_, last = trace(problem, solver, 0, Budget(steps=3), judge, Stopwatch(lambda: None), False, meter=Meter(), **held)
    return last


def raises(words):
    def fn(*points):
        raise ZeroDivisionError(words)

    return fn


def test_what_the_problem_s_functions_raise_is_the_problem_s():
    problem, solver = honest()
    last = run_of(replace(problem, g=raises("in g")), solver)
    assert (last.status, last.fault, last.reason) == ("error", "problem", "in g")


def test_unless_they_are_asked_at_an_impossible_point():
    class Wrong:
        def init(self, o, x, y):
            return Point(x, y)

        def step(self, o, s):
            return Point(s.x, o.dg_y(s.x, s.y[:2]))

    last = run_of(honest()[0], Wrong())
    assert (last.status, last.fault) == ("error", "solver")


def test_what_judging_raises_is_the_problem_s():
    problem, solver = honest()
    last = run_of(problem, solver, raises("in metrics"))
    assert (last.status, last.fault, last.reason) == ("error", "problem", "in metrics")


def test_the_clock_tells_of_phases_while_nobody_is_timed():
    """What hearing of a phase takes is in no curve."""
    told, now = [], 0.0

    def tell(account):
        nonlocal now
        told.append(account)
        now += 1.0

    problem, solver = honest()
    watch = Stopwatch(lambda: None, wall=lambda: now, cpu=lambda: now, tell=tell)
    rows = list(
        trace(problem, solver, 0, Budget(steps=2), lambda x, y, *look: {"phi": 0.0}, watch, False, meter=Meter())
    )
    assert told == ["init", "overhead", "judge", "overhead", *["steps", "overhead", "judge", "overhead"] * 2]
    assert [row.seconds for row in rows] == [0.0, 0.0, 0.0]
