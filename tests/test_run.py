"""The measuring loop: budgets, looks, the clock, the judge, suites and keys."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.spec import parse_seeds
from bilevelbench.measure.budget import Budget, Used, looks
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.memory import LiveBytes, peak
from bilevelbench.measure.trace import trace
from bilevelbench.run.plan import expand
from bilevelbench.run.suite import Block, Suite, load_suite, suite_names


def run(solver="bome", problem="quadratic(d=4)", judge=None, watch=None, iterates=False, **limits):
    made = build_problem(problem, Draw(0))
    watch = watch or Stopwatch(lambda: None)
    return list(trace(made, make_solver(solver), 0, Budget(**limits), judge or Judge(made), watch, iterates))


# -- budgets and looks


def test_looks_are_geometric():
    assert list(itertools.islice(looks(), 12)) == [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 29]


@given(st.integers(1, 5000))
def test_the_last_look_is_the_last_step(steps):
    budget, step, seen, schedule = Budget(steps=steps), 0, [], looks()
    while not budget.spent(step, Used(calls=step)):
        step = min(next(schedule), step + budget.room(step, Used(calls=step)))
        seen.append(step)
    assert seen[-1] == steps
    assert seen == sorted(set(seen))


@given(st.integers(1, 400), st.integers(1, 5000))
def test_calls_are_never_exceeded_after_the_first_step(price, limit):
    budget, step, schedule = Budget(calls=limit), 0, looks()
    while not budget.spent(step, Used(calls=price * step)):
        step = min(next(schedule), step + budget.room(step, Used(calls=price * step)))
    assert step == max(1, limit // price)


def test_rows_count_from_the_start_and_end_with_a_status():
    rows = run(steps=9)
    assert [row.step for row in rows] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [row.status for row in rows] == ["running"] * 8 + ["done"]
    assert rows[-1].ended_by == "steps"
    assert rows[0].calls == {}
    assert rows[-1].calls == {"dg_y": 90, "df": 9, "dg": 9, "dg_x": 9}
    assert rows[-1].total_calls == 117
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(rows))


def test_calls_and_seconds_end_a_run():
    assert run(calls=1000)[-1].ended_by == "calls"
    assert run(calls=1000)[-1].total_calls == 988  # 76 steps of 13
    last = run(seconds=0.05)[-1]
    assert last.ended_by == "seconds"
    assert last.seconds >= 0.05


# -- the clock


class FakeTime:
    """A device whose work is done only when somebody waits for it, and a clock that says so."""

    def __init__(self):
        self.now, self.queue = 0.0, 0.0

    def drain(self):
        self.now += self.queue
        self.queue = 0.0

    def read(self):
        return self.now


def test_recorded_seconds_are_the_device_s_work_and_judging_is_not_in_them():
    time = FakeTime()
    problem = build_problem("quadratic(d=2)", Draw(0))
    work = problem.g

    def slow_g(x, y):
        time.queue += 1.0  # an asynchronous kernel: it takes a second of the device, later
        return work(x, y)

    def judge(x, y, *look):
        time.now += 100.0
        return {"phi": 0.0}

    problem = dataclasses.replace(problem, g=slow_g)
    watch = Stopwatch(time.drain, wall=time.read, cpu=time.read)
    rows = list(trace(problem, make_solver("bome(T=3)"), 0, Budget(steps=6), judge, watch, False))
    assert [row.seconds for row in rows] == [5.0 * row.step for row in rows]  # 3 + 2 gradients of g a step
    assert time.now == pytest.approx(30.0 + 100.0 * len(rows))


# -- the judge


@pytest.mark.parametrize("kappa", [1, 10, 1000])
def test_a_numerical_judge_agrees_with_the_closed_form(kappa):
    closed = build_problem(f"quadratic(kappa={kappa})", Draw(3))
    numerical = Judge(dataclasses.replace(closed, y_star=None))(closed.x0, closed.y0)
    exact = Judge(closed)(closed.x0, closed.y0)
    for name, value in exact.items():
        assert numerical[name] == pytest.approx(value, rel=1e-6), name
    assert numerical["lower_error"] <= 1e-12 * kappa * float(closed.y_star(closed.x0).norm())


def test_metrics_of_the_exact_solution():
    problem = build_problem("quadratic", Draw(0))
    x = problem.x0.clone().requires_grad_()
    for _ in range(60):  # Newton-like: the hyper-objective is quadratic
        optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe", tolerance_grad=1e-14, tolerance_change=0)

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            value = problem.f(x, problem.y_star(x))
            value.backward()
            return value

        optimizer.step(closure)
    found = Judge(problem)(x.detach(), problem.y_star(x.detach()))
    assert abs(found["phi_gap"]) < 1e-12
    assert abs(found["gap"]) < 1e-12
    assert found["grad_phi"] < 1e-6
    # grad q = 0 here and BOME's multiplier is 0/0: the guard must not report |grad f|^2
    assert found["stationarity"] < 1e-10


def test_stationarity_along_the_value_gap_path():
    """At grad f + c grad q = 0 the measure is q alone, with the multiplier c."""
    problem, c = build_problem("quadratic(kappa=5,d=6)", Draw(0)), 50.0
    x, y = problem.x0.clone(), problem.y0.clone()
    from scipy.optimize import minimize

    def value(z):
        z = torch.from_numpy(z).requires_grad_()
        x, y = z[:6], z[6:]
        total = problem.f(x, y) + c * (problem.g(x, y) - problem.g(x, problem.y_star(x)))
        total.backward()
        return float(total.detach()), z.grad.numpy()

    z = minimize(value, torch.cat([x, y]).numpy(), jac=True, method="L-BFGS-B", options={"gtol": 1e-12, "ftol": 0}).x
    found = Judge(problem)(torch.from_numpy(z[:6]), torch.from_numpy(z[6:]))
    assert found["gap"] > 1e-6
    assert found["stationarity"] == pytest.approx(found["gap"], rel=1e-4)


def test_float32_runs_are_judged_in_float64():
    exact = build_problem("quadratic", Draw(0))
    found = Judge(exact)(exact.x0.float(), exact.y0.float())
    assert found["phi"] == pytest.approx(Judge(exact)(exact.x0, exact.y0)["phi"], rel=1e-6)


# -- memory


def test_known_sizes_are_measured():
    with LiveBytes() as tracker:
        a = torch.zeros(1000, dtype=torch.float64)
        b = a + 1
        del a
        c = b.view(10, 100)  # no new storage
        c.add_(1)
        d = torch.zeros(500, dtype=torch.float32)
    assert tracker.peak == 16000
    assert tracker.live == 8000 + 2000
    del b, c, d
    assert tracker.live == 0


def test_bome_is_flat_in_inner_steps():
    problem = build_problem("quadratic(d=300)", Draw(0))
    assert peak(problem, make_solver("bome(T=10)")) == peak(problem, make_solver("bome(T=100)"))


# -- suites and keys


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_expands(name, tmp_path):
    jobs = expand(load_suite(name), tmp_path)
    assert jobs
    assert len({job.path for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("3", (3,)), ("0,2,5", (0, 2, 5)), ("1-2,2-3", (1, 2, 3))]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-1", "-1", "1,,2", "0-99999999999", "1.5"])
def test_bad_seeds_are_refused(text):
    with pytest.raises(RequestError, match="seeds"):
        parse_seeds(text)


def test_keys_tell_experiments_apart(tmp_path):
    block = Block(("quadratic",), ("bome",), steps=10)
    base = expand(Suite("", "", (block,)), tmp_path)[0].key
    same = expand(
        Suite("", "", (dataclasses.replace(block, solvers=("bome(T=10)",), problems=("quadratic(kappa=10)",)),)),
        tmp_path,
    )
    assert same[0].key == base, "defaults spelled out are the same experiment"
    for change in (
        {"steps": 11},
        {"seeds": (1,)},
        {"solvers": ("bome(T=9)",)},
        {"dtype": "float32"},
        {"iterates": True},
    ):
        other = expand(Suite("", "", (dataclasses.replace(block, **change),)), tmp_path)[0].key
        assert other.digest != base.digest, change


def test_the_key_covers_the_solver_s_source(tmp_path):
    file = tmp_path / "mine.py"
    source = """
from bilevelbench import Point, solver

@solver("mine")
class Mine:
    lr: float = 0.1

    def step(self, o, s):
        return Point(s.x, s.y - self.lr * o.dg_y(s.x, s.y))
"""
    keys = []
    for text in (source, source + "# edited\n"):
        file.write_text(text)
        from bilevelbench.measure.env import source_digest

        source_digest.cache_clear()
        keys.append(expand(Suite("", "", (Block(("quadratic",), (str(file),), steps=3),)), tmp_path)[0].key)
    assert keys[0].digest != keys[1].digest


def test_diverged_runs_keep_their_rows():
    rows = run("bome(lr=1e6)", steps=400)
    assert rows[-1].status == "diverged"
    assert "not finite" in rows[-1].reason
    assert math.isfinite(rows[1].metrics["phi"])


def test_iterates_are_kept_when_asked_for():
    rows = run(steps=2, iterates=True)
    assert [len(row.x) for row in rows] == [4, 4, 4]
    assert run(steps=2)[0].x is None
