"""The clock, the seal and the checks of a state: what every look of a run goes through."""

import math
from types import SimpleNamespace

import pytest
import torch

from bilevelbench import Draw, build_problem
from bilevelbench.core.meter import Tally
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.solver import Point
from bilevelbench.measure import clock, feasible
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.failure import Diverged, Foul, Impure
from bilevelbench.measure.seal import Seal
from bilevelbench.measure.trace import _check, _kind, warm_up

QUADRATIC = build_problem("quadratic(d=3)", Draw(0))


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_a_clock_is_checked_against_another(monkeypatch):
    readings = {"sleep": {"wall": 0.02, "cpu": 0.0, "held": True}, "spin": {"wall": 0.02, "cpu": 0.02, "held": True}}

    def ok(**changes):
        now = {name: {**reading, **changes.get(name, {})} for name, reading in readings.items()}
        monkeypatch.setattr(clock, "_timed", lambda work: now["sleep" if work is clock._sleep else "spin"])
        return clock.self_check.__wrapped__("cpu")["ok"]

    assert ok()
    for name in readings:
        assert not ok(**{name: {"held": False}})
    for cpu, good in ((0.009, True), (0.011, False)):
        assert ok(sleep={"cpu": cpu}) is good
    for cpu, good in ((0.0179, False), (0.0181, True), (0.039, True), (0.041, False)):
        assert ok(spin={"cpu": cpu}) is good
    found = clock.self_check.__wrapped__("cpu")
    assert (found["known"], found["slept"], found["busy"], found["slept_cpu"]) == (0.02, 0.02, 0.02, 0.0)


def test_accounts_sum_to_the_time_that_passed():
    now, told = [0.0], []
    watch = Stopwatch(lambda: None, lambda: now[0], lambda: 2 * now[0], told.append)
    for seconds, work in ((1.0, watch.start), (2.0, watch.stop), (4.0, lambda: watch.turn("init"))):
        now[0] += seconds
        work()
    now[0] += 8.0
    with watch.account("judge"):
        now[0] += 16.0
    assert dict(watch.accounts) == {"overhead": 5.0, "steps": 2.0, "init": 8.0, "judge": 16.0}
    assert (watch.seconds, watch.cpu_seconds) == (10.0, 20.0)
    assert told == ["steps", "overhead", "init", "judge", "init"]


def sealed():
    tally = Tally()
    oracle = Oracle(QUADRATIC, 0, tally=tally)
    intact = SimpleNamespace(changed=lambda: said[0])
    said = [""]
    return Seal(oracle, tally, None, intact), oracle, tally, said


def test_a_seal_is_broken_by_each_thing_that_is_not_as_it_was():
    seal, oracle, tally, said = sealed()
    oracle.begin(3)
    oracle.dg_y(QUADRATIC.x0, QUADRATIC.y0)
    seal.look(True)
    seal.between()
    with pytest.raises(Foul, match="changed code of the harness, and put it back"):
        seal.look(False)
    said[0] = "changed torch.grad"
    for untouched in (True, False):
        with pytest.raises(Foul, match=r"the solver changed torch\.grad"):
            seal.look(untouched)
    said[0] = ""
    oracle.dg_y(QUADRATIC.x0, QUADRATIC.y0)
    with pytest.raises(Foul, match="asked for dg_y after a step was over"):
        seal.between()
    stopped = tally.shot()
    seal.look(True, stopped)
    oracle.dg_y(QUADRATIC.x0, QUADRATIC.y0)  # by a timer, say, before anybody has looked
    with pytest.raises(Foul, match="asked for dg_y after a step was over"):
        seal.look(True, stopped)
    tally.ticks.clear()
    with pytest.raises(Foul, match="counters were put back"):
        seal.look(True)
    seal, oracle, *_ = sealed()
    oracle.mine = 1
    with pytest.raises(Foul, match="changed the oracle's mine"):
        seal.look(True)
    seal, oracle, *_ = sealed()
    oracle._seed = 5
    with pytest.raises(Foul, match="changed the oracle's _seed"):
        seal.look(True)


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (lambda t: t[:1], lambda t: t, ValueError, "the state's x became"),
        (lambda t: t, lambda t: t[:1], ValueError, "y became"),
        (lambda t: t.float(), lambda t: t, ValueError, r"x became float32\[3\] on cpu; it started as float64"),
        (lambda t: t, lambda t: t.clone().requires_grad_(), ValueError, "y carries a graph"),
        (lambda t: t * math.nan, lambda t: t, Diverged, "x is not finite"),
        (lambda t: t, lambda t: t / 0, Diverged, "y is"),
    ],
)  # fmt: skip
def test_a_state_that_a_step_may_not_return(x, y, error, words):
    _check(Point(QUADRATIC.x0, QUADRATIC.y0), QUADRATIC)
    with pytest.raises(error, match=words):
        _check(Point(x(QUADRATIC.x0), y(QUADRATIC.y0 + 1)), QUADRATIC)
    assert _kind(torch.zeros(2, 3)) == "float32[2, 3] on cpu"


def test_two_steps_are_made_to_warm_up_and_leave_their_state_alone():
    made, waited = [], []

    class Counted:
        name = "counted"

        def init(self, o, x, y):
            return Point(x, y)

        def step(self, o, s):
            made.append(o.step)
            return Point(s.x, s.y + 1)

    assert warm_up(QUADRATIC, Counted(), 0, lambda: waited.append(len(made))) >= 0.0
    assert (made, waited) == ([0, 1], [1, 2])

    class Writes(Counted):
        def step(self, o, s):
            s.y.add_(1.0)
            return s

    with pytest.raises(Impure, match="it must return a new one"):
        warm_up(QUADRATIC, Writes(), 0, lambda: None)
    assert feasible.FEASIBLE == 1e-8
