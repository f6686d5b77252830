"""What an audit compares, and how it says what differs."""

import math

import torch

from bilevelbench import Draw, build_problem
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure import audit
from bilevelbench.measure.audit import _answers, _asks, _differ, _odd
from bilevelbench.measure.counts import Operations

QUADRATIC = build_problem("quadratic(d=3)", Draw(0))


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_how_far_two_tensors_differ():
    close = {torch.float64: 1e-9}
    one = vector(2.0, 4.0)
    assert _differ(one, one.clone(), close, "y") == ""
    assert _differ(one + 3.9e-9, one, close, "y") == ""  # of the largest entry
    assert _differ(one + 4.1e-9, one, close, "y") == "y differs by 1.0e-09 of its size"
    assert _differ(one + 1.0, one, close, "y") == "y differs by 2.5e-01 of its size"
    assert _differ(one[:1], one, close, "y") == "y has another shape"
    assert _differ(one.float(), one, close, "y") == "y has another shape"
    assert _differ(torch.tensor([1]), torch.tensor([2]), close, "y") == "y differs by 5.0e-01 of its size"
    assert _differ(vector(1.0), vector(0.0), close, "y") == "y differs by 1.0e+00 of its size"
    assert _differ(vector(math.nan), vector(math.nan), close, "y") == ""
    assert _differ(torch.empty(0), torch.empty(0), close, "y") == ""
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


def test_which_packed_states_are_equal(tmp_path):
    held = audit._Audit(QUADRATIC, make_solver("first_order"), 0, tmp_path, (), audit.CLOSE)
    named = ["named", "Point", vector(1.0), 2.0]
    same = [(named, named), (3, 3), (2.0, 2.0 + 1e-12), ("a", "a"), (["list", "", 1], ["list", "", 1])]
    assert [held._unequal(a, b, "s") for a, b in same] == [""] * len(same)
    other = [
        (["named", "Point", vector(1.0), 2.5], "y differs"), (["named", "Point", vector(2.0), 2.0], "x differs"),
        (["list", "", vector(1.0), 2.0], "another thing"), (["named", "Other", vector(1.0), 2.0], "another thing"),
        (["named", "Point", vector(1.0)], "another thing"), (vector(1.0), "another thing"),
        (["named", "Point", 3, 2.0], "x is another thing"),
    ]  # fmt: skip
    for value, words in other:
        assert words in held._unequal(value, named, "s")
    assert "s[1] is another thing" in held._unequal(["list", "", 1, 2], ["list", "", 1, 3], "s")
    assert held._unequal(3, 4, "s") == "s is another thing"
