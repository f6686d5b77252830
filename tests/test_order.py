"""Which row of a run can come after which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.store import order
from bilevelbench.store.order import chain, follows, in_order


def row(step=1, **other):
    usual = {"status": "running", "seconds": 1.0 * step, "cpu_seconds": 1.0 * step, "total_calls": 2 * step}
    return {"step": step, "calls": {"dg_y": 2 * step}, "rows": {"dg_y": 3 * step}, "metrics": {}, **usual, **other}


SECOND = [  # a row after row(1), and whether it can come there
    ({}, True),
    ({"status": "done"}, True),
    ({"step": 1}, False),  # steps rise
    ({"step": 0}, False),
    ({"seconds": 1.0, "cpu_seconds": 1.0, "total_calls": 2}, True),  # and these may stay
    ({"seconds": 0.9}, False),
    ({"cpu_seconds": 0.9}, False),
    ({"total_calls": 1}, False),
    ({"calls": {"dg_y": 2}}, True),
    ({"calls": {"dg_y": 1}}, False),
    ({"calls": {}}, False),
    ({"calls": {"dg_y": 2, "f": 1}}, True),
    ({"rows": {"dg_y": 3}}, True),
    ({"rows": {"dg_y": 2}}, False),
    ({"rows": {}}, False),
    ({"seconds": None, "cpu_seconds": None}, True),  # of what is not said nothing is held against it
    ({"status": "error", "step": 1}, True),  # how a run failed stays at the look before
    ({"status": "error", "step": 1, "seconds": 0.5}, False),
    ({"status": "error", "step": 0}, False),
    ({"status": "lost", "step": 1, "calls": {}, "total_calls": 0, "rows": {}}, True),  # nobody had counted
    ({"status": "lost", "step": 1, "calls": {}, "total_calls": 0, "rows": {}, "seconds": 0.5}, False),
    ({"status": "timeout", "step": 1, "calls": {"dg_y": 1}}, False),
]  # fmt: skip


@pytest.mark.parametrize(("other", "expected"), SECOND)
def test_what_comes_after_a_look(other, expected):
    second = row(**({"step": 2} | other))
    assert follows(second, row(1)) is expected
    assert in_order([row(1), second]) is expected


@pytest.mark.parametrize("name", ["seconds", "cpu_seconds"])
def test_a_missing_reading_tells_nothing(name):
    without = row(2)
    del without[name]
    assert in_order([row(1), without, row(3)])
    assert not in_order([row(1), without | {"step": 1}, row(3)])


@pytest.mark.parametrize("last", ["done", "diverged", "error", "lost", "unsupported", "timeout", "oom"])
@pytest.mark.parametrize("status", ["running", "done", "diverged", "timeout", "error", "lost"])
def test_after_the_end_comes_only_what_an_audit_found(last, status):
    end, late = row(1, status=last), row(1, status=status)
    audited = last in ("done", "diverged", "timeout") and status in ("error", "lost")
    assert follows(late, end) is audited
    assert in_order([end, late]) is audited
    assert not follows(late | {"step": 2}, end)
    assert not follows(late | {"step": 0}, end)
    assert not follows(late | {"metrics": {"phi": 1.0}}, end)


def test_the_longest_chain_is_kept():
    rows = [row(5), row(1), row(2), row(9), row(3)]
    assert chain(rows) == {1, 2, 3}  # of several the first
    assert chain([]) == set()
    assert chain([row(1)]) == {0}


def test_of_chains_of_one_length_that_which_ends_is_kept():
    assert chain([row(1), row(2), row(2, status="done")]) == {0, 2}
    assert chain([row(1), row(2, status="done"), row(2)]) == {0, 1}


def test_of_very_many_those_in_order_with_the_first_are_kept(monkeypatch):
    rows = [row(2), row(1), row(3), row(3), row(4)]
    monkeypatch.setattr(order, "MOST_WEIGHED", 5)
    longest = [row(9), row(1), row(2), row(3), row(4)]
    assert chain(longest) == {1, 2, 3, 4}
    monkeypatch.setattr(order, "MOST_WEIGHED", 4)
    assert chain(longest) == {0}
    assert chain(rows) == {0, 2, 4}


@given(st.lists(st.integers(0, 6), max_size=9))
def test_a_chain_is_in_order_and_nothing_can_be_added(steps):
    rows = [row(step) for step in steps]
    kept = sorted(chain(rows))
    assert in_order([rows[k] for k in kept])
    for k in set(range(len(rows))) - set(kept):
        assert not in_order([rows[j] for j in sorted([*kept, k])])
