"""When a run ends and when it is looked at: every limit at its boundary."""

from itertools import islice

import pytest

from bilevelbench.measure.budget import Budget, Used, looks


def test_the_schedule_grows_by_its_ratio_and_by_one_at_least():
    assert list(islice(looks(), 12)) == [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 29]
    assert list(islice(looks(2.0), 5)) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("budget", "at", "expected"),
    [
        (Budget(steps=3), (2, 9.0, 9), ""),
        (Budget(steps=3), (3, 0.0, 0), "steps"),
        (Budget(steps=3), (4, 0.0, 0), "steps"),
        (Budget(steps=0), (0, 0.0, 0), "steps"),
        (Budget(seconds=2.0), (9, 1.9, 9), ""),
        (Budget(seconds=2.0), (9, 2.0, 9), "seconds"),
        (Budget(steps=1, seconds=0.0, calls=0), (1, 1.0, 1), "steps"),
        (Budget(seconds=1.0, calls=1), (1, 1.0, 1), "seconds"),
        (Budget(calls=10), (2, 0.0, 6), ""),  # 3 a step: 9 fit
        (Budget(calls=9), (2, 0.0, 6), ""),
        (Budget(calls=8), (2, 0.0, 6), "calls"),
        (Budget(calls=8), (2, 0.0, 5), ""),  # 2.5 a step, and no half call: 3
        (Budget(calls=7), (2, 0.0, 5), "calls"),
        (Budget(calls=0), (0, 0.0, 0), ""),  # the first step shows what a step costs
    ],
)
def test_a_limit_ends_a_run_where_it_leaves_no_room(budget, at, expected):
    step, seconds, calls = at
    assert budget.spent(step, Used(seconds, calls)) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [(9, ""), (8, ""), (7, "calls")],
)
def test_what_init_took_counts_and_is_no_part_of_what_a_step_costs(calls, expected):
    assert Budget(calls=calls).spent(1, Used(0.0, 6), Used(0.0, 4)) == expected  # 4 and 2: a further step makes 8


def test_an_init_that_asks_may_leave_no_room_for_a_first_step():
    assert Budget(calls=4).spent(0, Used(0.0, 4), Used(0.0, 4)) == "calls"
    assert Budget(calls=5).spent(0, Used(0.0, 4), Used(0.0, 4)) == ""


def test_rows_are_a_limit_like_calls():
    budget = Budget(rows=30)
    assert budget.spent(0, Used(rows=40)) == ""  # the first step shows what a step costs
    assert budget.spent(2, Used(rows=20)) == ""
    assert budget.spent(2, Used(rows=21)) == "rows"
    assert budget.spent(1, Used(rows=20), Used(rows=10)) == ""
    assert budget.room(2, Used(rows=14), Used(rows=4)) == 3
    assert Budget(calls=2, rows=1).spent(1, Used(calls=2, rows=1)) == "calls"
    assert Used() == Used(0.0, 0, 0)


@pytest.mark.parametrize(
    ("budget", "at", "init", "expected"),
    [
        (Budget(steps=9), (0, 0.0, 0), (0.0, 0), 1),  # nothing is known before the first step
        (Budget(steps=9), (2, 0.0, 0), (0.0, 0), 7),
        (Budget(calls=20), (2, 0.0, 6), (0.0, 0), 4),  # 14 left at 3 a step
        (Budget(calls=20), (2, 0.0, 10), (0.0, 4), 3),  # 10 left at 3 a step
        (Budget(calls=20), (2, 0.0, 4), (0.0, 4), 2**62),  # steps that ask nothing are never too many
        (Budget(seconds=10.0), (2, 4.0, 0), (0.0, 0), 3),
        (Budget(seconds=10.0), (2, 5.0, 0), (1.0, 0), 2),
        (Budget(seconds=10.0), (2, 1.0, 0), (1.0, 0), 2**62),
        (Budget(seconds=10.0), (2, 11.0, 0), (0.0, 0), 1),  # at least one
        (Budget(steps=9, seconds=10.0, calls=20), (2, 4.0, 10), (0.0, 4), 3),
        (Budget(steps=4, seconds=10.0, calls=20), (2, 4.0, 10), (0.0, 4), 2),
    ],
)
def test_room_is_what_the_narrowest_limit_leaves(budget, at, init, expected):
    step, seconds, calls = at
    assert budget.room(step, Used(seconds, calls), Used(*init)) == expected
