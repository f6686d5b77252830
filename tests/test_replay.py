"""What an audit compares, and how it says what differs."""

import math

import torch

from bilevelbench.core.solver import Point
from bilevelbench.measure import audit
from bilevelbench.measure.audit import _answers, _asks, _odd
from bilevelbench.measure.counts import Operations
from bilevelbench.measure.same import EASE, nudged, unequal


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_how_far_two_tensors_differ():
    close = {torch.float64: 1e-9}
    one = vector(2.0, 4.0)
    assert unequal(one, one.clone(), close, {}, name="y") == ""
    assert unequal(one + 3.9e-9, one, close, {}, name="y") == ""  # of the largest entry
    assert unequal(one + 4.1e-9, one, close, {}, name="y") == "y differs by 1.0e-09 of its size"
    assert unequal(one + 1.0, one, close, {}, name="y") == "y differs by 2.5e-01 of its size"
    assert unequal(one[:1], one, close, {}, name="y") == "y has another shape"
    assert unequal(one.float(), one, close, {}, name="y") == "y has another shape"
    assert unequal(torch.tensor([1]), torch.tensor([2]), close, {}, name="y") == "y differs by 5.0e-01 of its size"
    assert unequal(vector(1.0), vector(0.0), close, {}, name="y") == "y differs by 1.0e+00 of its size"
    assert unequal(vector(math.nan), vector(math.nan), close, {}, name="y") == ""
    assert unequal(torch.empty(0), torch.empty(0), close, {}, name="y") == ""
    assert set(audit.CLOSE) == set(audit.LOOSE) == {torch.float64, torch.float32}
    assert all(0 < audit.CLOSE[dtype] < audit.LOOSE[dtype] < 0.01 for dtype in audit.CLOSE)


def test_answers_in_words():
    counts = {("g", 5, "f"): 2, ("g", 5, "b"): 1, ("f", None, "f"): 3}
    assert _answers(counts) == {("g", 5): 3, ("f", None): 3}
    assert _asks(counts) == "3 f, 3 g of 5 rows"
    assert _asks({}) == "nothing"


def test_what_is_odd_about_a_question():
    assert _odd((vector(1.0), 3, None)) == ""
    assert "is asked at a Parameter" in _odd((1, torch.nn.Parameter(vector(1.0))))
    with Operations():
        assert _odd(()) == ""  # the harness's own
        with Operations():
            assert "within a mode" in _odd(())
    with torch.autograd.forward_ad.dual_level():
        assert "within a mode" in _odd(())


def test_which_packed_states_are_equal():
    def said(a, b):
        return unequal(a, b, audit.CLOSE, {"Point": Point}, name="s")

    named = ["named", "Point", vector(1.0), 2.0]
    same = [(named, named), (3, 3), (2.0, 2.0 + 1e-12), ("a", "a"), (["list", "", 1], ["list", "", 1])]
    assert [said(a, b) for a, b in same] == [""] * len(same)
    other = [
        (["named", "Point", vector(1.0), 2.5], "y differs"), (["named", "Point", vector(2.0), 2.0], "x differs"),
        (["list", "", vector(1.0), 2.0], "another thing"), (["named", "Other", vector(1.0), 2.0], "another thing"),
        (["named", "Point", vector(1.0)], "another thing"), (vector(1.0), "another thing"),
        (["named", "Point", 3, 2.0], "x is another thing"),
    ]  # fmt: skip
    for value, words in other:
        assert words in said(value, named)
    assert "s[1] is another thing" in said(["list", "", 1, 2], ["list", "", 1, 3])
    assert said(3, 4) == "s is another thing"


def test_what_rounding_does_to_the_steps_is_allowed_times_so_much():
    now, moved = vector(1.0, 1e-9), vector(1.0, 1e-9 + 1e-12)
    for by, words in ((0.9 * EASE * 1e-12, ""), (1.1 * EASE * 1e-12, "s differs")):
        then = now + vector(0.0, by)
        assert unequal(now, then, {torch.float64: 1e-15}, {}, moved, "s").startswith(words)
        assert (unequal(now, then, {torch.float64: 1e-15}, {}, moved, "s") == "") == (not words)
        assert "s differs" in unequal(now, then, {torch.float64: 1e-15}, {}, None, "s")
    assert unequal(1.0, 1.0 + 1e-6, {torch.float64: 1e-9}, {}, 1.0 + 1e-6) == ""
    assert "differs" in unequal(1.0, 1.0 + 1e-6, {torch.float64: 1e-9}, {}, 1.0)


def test_a_state_is_moved_by_a_few_units_in_the_last_place():
    first, number, whole = nudged(["tuple", "", vector(3.0, -3.0), 2, torch.tensor([7])])[2:]
    assert number == 2
    assert whole.item() == 7
    assert 0 < float((first / vector(3.0, -3.0) - 1).abs().max()) < 1e-14
