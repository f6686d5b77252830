"""Prices of answers and bytes that are held: each figure from its own reading."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, start, stretch
from bilevelbench.measure import memory, prices, ratio
from bilevelbench.measure.counts import counts, operations, python_calls
from bilevelbench.measure.memory import LiveBytes, ProcessPeak, peak
from bilevelbench.measure.prices import _calls, _line, answer, bare, questions
from bilevelbench.measure.ratio import interval, paired, step_over_floor, steps_of
from bilevelbench.store.journal import Record
from bilevelbench.store.prices import _median, floor, price

PROBLEM = build_problem("quadratic(d=3)", Draw(0))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(9, 4.0)], [4.0, 0.0]), ([(2, 3.0), (4, 5.0)], [1.0, 1.0]), ([(2, 5.0), (4, 5.0)], [5.0, 0.0]),
        ([(2, 6.0), (4, 5.0)], [5.0, 0.0]), ([(2, 1.0), (4, 5.0)], [0.0, 1.25]), ([(2, 4.2), (4, 5.0)], [3.4, 0.4]),
    ],
)  # fmt: skip
def test_a_line_through_one_or_two_readings_with_no_part_negative(points, expected):
    assert _line(points) == pytest.approx(expected)


def test_calls_are_tried_with_all_rows_and_with_a_minibatch_where_there_are_many():
    def sizes(n):
        made = dataclasses.replace(build_problem(f"finite_sum_quadratic(n={n})", Draw(0)), n_f=7)
        calls = _calls(made, prices.derive)
        return {size for kind, size in calls if kind == "dg_y"}, {size for kind, size in calls if kind == "df_y"}

    assert sizes(128) == ({128}, {7})
    assert sizes(129) == ({129, 64}, {7})


def test_questions_are_those_of_the_first_steps_at_seed_0():
    asked, _ = questions(PROBLEM, make_solver("bome(T=1)"), 3)
    assert [q.kind for q in asked] == ["dg_y", "df", "dg", "dg_x"] * 3
    noisy = build_problem("finite_sum_quadratic(n=64)", Draw(0))
    solver = make_solver("soba(batch=4)")

    def drawn(**seed):
        return [tensor.tolist() for q in questions(noisy, solver, 1, **seed)[0] for tensor in q.arguments]

    assert drawn() == drawn(seed=0) != drawn(seed=1)


def test_answers_of_what_a_problem_lacks_are_not_asked():
    assert {"h_f", "h_g", "dh_f", "dh_g"} & {*bare(PROBLEM)} == set()
    asked, entered = questions(PROBLEM, make_solver("soba"), 2)[0], []
    watched = dataclasses.replace(PROBLEM, g=lambda x, y: entered.append(1) or PROBLEM.g(x, y))
    answer(watched, [prices.Question("h_g", (PROBLEM.x0, PROBLEM.y0)), *asked])
    kept = {q.at for q in asked if q.at is not None}
    assert {place[0] for place in kept} == {0, 1}
    plain = sum(q.at is None and "g" in q.kind for q in asked)
    assert len(entered) == plain + 2  # one graph a step


def test_rounds_and_blocks(monkeypatch):
    """The first call of a kind is warm-up; then so many rounds of so many calls, of each kind in turn."""
    now, asked = [0.0], []
    fake = SimpleNamespace(process_time=lambda: now[0], perf_counter=lambda: 0.0)
    monkeypatch.setattr(prices, "time", fake)

    def call(kind, seconds):
        def go():
            asked.append(kind)
            now[0] += seconds if len(asked) > 3 else 100.0

        return go

    def refuses():
        raise Unsupported("no second derivative")

    calls = {("f", 5): call("f", 1.0), ("g", 5): call("g", 2.0), ("kept d2g", 5): call("k", 3.0), ("d2f", 5): refuses}
    monkeypatch.setattr(prices, "_calls", lambda problem, derivatives: calls)
    found = prices.prices(PROBLEM)
    assert found == {"f": [1.0, 0.0], "g": [2.0, 0.0], "kept d2g": [3.0, 0.0]}
    assert asked == ["f", "g", "k"] + (["f"] * 4 + ["g"] * 4 + ["k"] * 4) * 9
    monkeypatch.setattr(prices, "ROUNDS", 0)
    asked.clear()
    assert set(prices.prices(PROBLEM)) == {"f", "g"}  # of a kept graph the first call makes the graph
    monkeypatch.setattr(fake, "perf_counter", iter([0.0, 2.0, 2.1, 9.0, 9.0]).__next__)
    assert set(prices.prices(PROBLEM)) == {"f"}


# -- bytes


def test_live_bytes_are_followed_until_they_are_freed():
    with LiveBytes() as tracker:
        one = torch.zeros(10, dtype=torch.float64)
        assert (tracker.live, tracker.peak, tracker.own_peak) == (80, 80, 80)
        view = one[2:]
        view += 1.0
        assert tracker.live == 80
        tracker.inside = True
        two = torch.zeros(5, dtype=torch.float64)
        three = torch.zeros(2, dtype=torch.float64)
        assert (tracker.live, tracker.inside_peak, tracker.own_peak) == (136, 56, 80)
        del three
        assert tracker.live == 120
        again = torch.zeros(1, dtype=torch.float64)
        assert tracker.inside_peak == 56
        tracker.leave()
        assert (tracker.own_peak, tracker.peak, tracker.inside) == (128, 136, False)
        tracker.inside = True
        four = torch.zeros(3, dtype=torch.float64)
        assert tracker.inside_peak == 56  # what was kept is not the making's any more
        del one, view, two, again, four
        assert tracker.live == 0


class Hoards:
    """Keeps so many bytes more with every step, outside its state, beginning with the second or later."""

    name = "hoards"

    def __init__(self, numbers=4, since=0):
        self.numbers, self.since, self.kept = numbers, since, []

    def init(self, o, x, y):
        return Point(x, y)

    def step(self, o, s):
        if o.step >= self.since:
            self.kept.append(torch.zeros(self.numbers, dtype=torch.float64))
        return Point(s.x, s.y - 0.1 * o.dg_y(s.x, s.y))


def test_growth_is_bytes_a_step_since_the_second():
    assert peak(PROBLEM, Hoards())["growth_bytes"] == 32
    assert peak(PROBLEM, Hoards(0))["growth_bytes"] == 0
    assert peak(PROBLEM, Hoards(4, since=7))["growth_bytes"] == 32 // 6  # the last of six steps alone
    assert peak(PROBLEM, Hoards(), steps=3)["growth_bytes"] == 32
    assert peak(PROBLEM, Hoards(), steps=2)["growth_bytes"] == 0
    found = peak(PROBLEM, Hoards(0))
    assert found["state_bytes"] == 8 * (len(PROBLEM.x0) + len(PROBLEM.y0))
    assert "cuda_bytes" not in found


def test_no_further_step_is_begun_beyond_its_patience(monkeypatch):
    monkeypatch.setattr(memory, "PATIENCE", 0.0)
    solver = Hoards()
    peak(PROBLEM, solver)
    assert len(solver.kept) == memory.SETTLED + 1 == 3
    monkeypatch.undo()
    solver = Hoards()
    peak(PROBLEM, solver)
    assert len(solver.kept) == memory.STEPS == 8


def test_the_process_s_peak_is_in_bytes(monkeypatch):
    made = ProcessPeak()
    monkeypatch.setattr(memory.Path, "read_text", lambda path: "VmPeak: 9 kB\nVmHWM:\t 3 kB\n")
    assert made.read() == ({"process_bytes": 3072} if made._known else {})


# -- counts and ratios


def test_operations_and_calls_are_exact():
    x = torch.ones(2)
    assert operations(lambda: (x + x, x * 2)) == {"add.Tensor": 1, "mul.Tensor": 1}
    assert not operations(lambda: None)
    assert python_calls(lambda: None) + 1 == python_calls(lambda: len(()))
    found = counts(PROBLEM, make_solver("first_order"), 2)
    assert sum(found["operations"].values()) > found["own_operations"] > 0
    assert found["python_calls"] > found["own_operations"]
    assert counts(PROBLEM, make_solver("first_order"), 4)["own_operations"] > found["own_operations"]


def test_a_ratio_is_the_median_of_pairs_in_turns(monkeypatch):
    order = []
    found = paired(lambda: order.append(1), lambda: order.append(2), rounds=3)
    assert order == [2, 1, 1, 2, 2, 1, 1, 2]
    assert found.low <= found.median <= found.high
    now = SimpleNamespace(cpu=0.0, wall=0.0)
    monkeypatch.setattr(ratio, "time", SimpleNamespace(process_time=lambda: now.cpu, perf_counter=lambda: now.wall))

    def takes(cpu, wall):
        def work():
            now.cpu, now.wall = now.cpu + cpu, now.wall + wall

        return work

    assert paired(takes(2.0, 30.0), takes(1.0, 10.0), rounds=4) == pytest.approx((2.0, 2.0, 2.0))
    monkeypatch.setattr(ratio, "drain", lambda device: lambda: None)
    assert paired(takes(2.0, 30.0), takes(1.0, 10.0), 4, "cuda:0") == pytest.approx((3.0, 3.0, 3.0))
    ratios = np.array([1.0, 2.0, 10.0])
    assert interval(ratios) == interval(ratios)
    assert interval(ratios) == (2.0, 1.0, 10.0)
    assert interval(np.ones(9)) == (1.0, 1.0, 1.0)


def test_steps_are_made_with_an_oracle_of_their_own():
    state = steps_of(PROBLEM, make_solver("first_order"), 3)()
    assert torch.equal(state.x, steps_of(PROBLEM, make_solver("first_order"), 3)().x)
    assert not torch.equal(state.x, steps_of(PROBLEM, make_solver("first_order"), 2)().x)
    assert step_over_floor(PROBLEM, make_solver("bome"), rounds=2).median > 0.1
    noisy, solver = build_problem("finite_sum_quadratic(n=64)", Draw(0)), make_solver("soba(batch=4)")
    oracle = Oracle(noisy, 0)
    wanted = stretch(solver, oracle, start(solver, noisy, oracle), 0, 3)
    assert torch.equal(steps_of(noisy, solver, 3)().y, wanted.y)
    again = steps_of(noisy, solver, 3, begun=True)
    assert torch.equal(again().y, wanted.y)
    assert torch.equal(again().y, wanted.y)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_the_ratio_to_the_floor_does_not_hang_on_the_number_of_steps(monkeypatch, seconds):
    """A dear start is in neither: on a slow machine fewer steps are timed."""

    class Dear(type(make_solver("first_order"))):
        def init(self, o, x, y):
            for _ in range(400):
                o.dg_y(x, y)
            return super().init(o, x, y)

    monkeypatch.setattr(ratio, "BLOCK", seconds)
    assert step_over_floor(PROBLEM, Dear(), rounds=8).median < 4


# -- what a report weighs by them


def test_the_median_is_of_those_runs_that_have_a_price():
    measured = [{"f": [1.0, 5.0]}, {"f": [3.0, 1.0], "g": [7.0, 0.0]}, {"f": [9.0, 2.0]}, {}]
    assert _median(measured) == {"f": (3.0, 2.0), "g": (7.0, 0.0)}


def test_a_floor_needs_a_price_for_all_that_costs():
    known = {"f": (2.0, 0.5)}
    assert floor(known, {"f": 3}, {"f": 4}, {}) == 8.0
    assert floor(known, {"f": 0}, {}, {}) == 0.0
    for free in ("draw_f", "project_x", "normal", "integer"):
        assert floor(known, {free: 9, "f": 1}, {}, {}) == 2.0
    assert math.isnan(floor(known, {"f": 1, "g": 1}, {}, {}))
    assert floor({}, {}, {}, {}) == 0.0
    assert floor(known, {"f": 2}, {"f": 2}, {"f": 1}) == 2.5  # beside a kept graph it costs nothing
    arrays = floor(known, {"f": np.array([0, 2])}, {"f": np.array([0, 4])}, {})
    assert arrays.tolist() == [0.0, 6.0]


def priced(unit, n_g, by_hand=(None, None)):
    """Two runs of one problem, as ``price`` is given them."""
    names = ["a", "b"]
    runs = pd.DataFrame({"run": names, "problem": "p", "solver": ["s", "t"], "machine": "m"})
    runs = runs.assign(floor_seconds=np.nan, grads=np.nan)
    last = {"step": 5, "calls": {"dg_y": 4}, "rows": {"dg_y": 8}, "kept": {}}
    prices = {"dg_y": unit} if unit else {}
    records = {
        name: Record(name, {"prices": prices, "problem": {"n_g": n_g}, "solver": {"by_hand": hand}}, [last])
        for name, hand in zip(names, by_hand, strict=True)
    }
    (one,) = price(runs, records).values()
    looks = floor(one.prices, {"dg_y": np.array([0, 4])}, {"dg_y": np.array([0, 8])}, {}) / one.unit
    return runs, looks


def test_a_gradient_over_all_rows_is_the_unit():
    runs, looks = priced([1.0, 0.5], 2)  # a gradient takes 2
    assert runs["floor_seconds"].tolist() == [8.0, 8.0]
    assert runs["grads"].tolist() == [4.0, 4.0]
    assert looks.tolist() == [0.0, 4.0]
    runs, _ = priced([1.0, 0.5], None)  # one row where nobody says
    assert runs["grads"].tolist() == [8.0 / 1.5] * 2
    runs, looks = priced(None, 2)
    assert runs["grads"].isna().all()
    assert runs["floor_seconds"].isna().all()
    assert np.isnan(looks).all()
    runs, _ = priced([0.0, 0.0], 2)
    assert runs["grads"].isna().all()


def test_a_loop_by_hand_is_its_solver_s_floor():
    runs, _ = priced([1.0, 0.5], 2, (0.1, None))
    assert runs["floor_seconds"].tolist() == pytest.approx([0.5, 8.0])
    runs, _ = priced([1.0, 0.5], 2, (0.0, None))
    assert runs["floor_seconds"].tolist() == [8.0, 8.0]
