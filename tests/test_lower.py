"""y* solved again: from anywhere, to the last digits, within what may be asked, or with the reason why not."""

import math

import pytest
import torch

from bilevelbench.measure import lower
from bilevelbench.measure.level import Level, Spent
from bilevelbench.measure.lower import Found, _lbfgs, _search, solve

X = torch.zeros(1, dtype=torch.float64)


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def quadratic(*curvature, at=1.0):
    diagonal = vector(*curvature)
    return lambda x, y: (diagonal * (y - at) ** 2).sum() / 2


@pytest.mark.parametrize("short", [200, 0], ids=["dense", "iterated"])
@pytest.mark.parametrize("convex", [True, False])
def test_a_quadratic_is_solved_to_the_last_digits(monkeypatch, short, convex):
    monkeypatch.setattr(lower, "SHORT", short)
    found = solve(Level(quadratic(1.0, 10.0, 1e3), X), vector(5.0, -3.0, 2.0), convex)
    assert found.why == ""
    assert float((found.y - 1.0).norm()) <= 1e-12
    assert found.error <= 1e-11
    assert found.inverse is not None
    assert found.free is None
    assert float(found.slope.norm()) <= 1e-9


def test_bounds_hold():
    level = Level(quadratic(1.0, 1.0), X, bounds=(vector(-5.0, -5.0), vector(0.5, 5.0)))
    found = solve(level, vector(9.0, 9.0))
    assert torch.allclose(found.y, vector(0.5, 1.0))
    assert found.free.tolist() == [False, True]
    assert found.slope.tolist()[0] == 0.0
    low = Level(quadratic(1.0, 1.0), X, bounds=(vector(1.5, -5.0), vector(5.0, 5.0)))
    assert torch.allclose(solve(low, vector(9.0, 9.0), convex=False).y, vector(1.5, 1.0))


def test_what_is_spent_says_so_and_keeps_the_best():
    found = solve(Level(quadratic(1.0, 10.0), X, allowance=1.0), vector(5.0, 5.0))
    assert found.why == "the re-solve of the lower level had 1 gradients and needs more"
    assert found.y.tolist() == [5.0, 5.0]
    other = solve(Level(quadratic(1.0, 10.0), X, allowance=4.0), vector(5.0, 5.0), convex=False)
    assert float(quadratic(1.0, 10.0)(X, other.y)) < float(quadratic(1.0, 10.0)(X, vector(5.0, 5.0)))


def test_what_is_not_finite_is_said():
    found = solve(Level(lambda x, y: (float("nan") * y).sum(), X), vector(1.0))
    assert found.why == "g or its gradient is not finite at the re-solved lower level"


def test_what_has_no_minimum_does_not_settle(monkeypatch):
    monkeypatch.setattr(lower, "STEPS", 5)
    found = solve(Level(lambda x, y: torch.exp(-y).sum(), X), vector(1.0))
    assert found.why


def test_a_search_takes_the_first_step_that_lowers_g_enough():
    level = Level(quadratic(1.0, at=0.0), X)
    y, (value, slope) = vector(1.0), Level(quadratic(1.0, at=0.0), X).look(vector(1.0))
    assert _search(level, y, vector(-1.0), value, slope)[0].tolist() == [0.0]
    assert level.asked == 1.0
    there, new, new_slope = _search(level, y, vector(-4.0), value, slope)
    assert (there.tolist(), new, new_slope.tolist()) == ([0.0], 0.0, [0.0])  # a quarter of it
    assert level.asked == 3.0
    level.asked = 0.0
    assert _search(level, y, vector(1.0), value, slope) is None  # uphill
    assert level.asked == lower.CUTS


def test_a_step_into_what_is_not_finite_is_cut():
    level = Level(lambda x, y: (torch.where(y < 0, math.inf, 1.0) * (y - 1) ** 2).sum(), X)
    value, slope = level.look(vector(2.0))
    assert _search(level, vector(2.0), vector(-4.0), value, slope)[0].tolist() == [1.0]


class Told:
    """A level of which only a value and a slope are known, the same everywhere."""

    bounds = None

    def __init__(self, value, slope):
        self._said = value, vector(slope)

    def inside(self, y):
        return y

    def look(self, y):
        return self._said


@pytest.mark.parametrize(
    ("value", "slope", "taken"),
    [
        (1.0, 9.0, None), (0.9999, 9.0, 0.0), (0.99991, 9.0, 0.75),  # 1e-4 of what the slope promises
        (1.0 + 4e-15, 0.89, 0.0), (1.0 + 4e-15, -0.89, 0.0), (1.0 + 4e-15, 0.91, None), (1.0 + 6e-15, 0.89, None),
    ],
)  # fmt: skip
def test_where_g_shows_only_rounding_its_slope_counts(value, slope, taken):
    found = _search(Told(value, slope), vector(1.0), vector(-1.0), 1.0, vector(1.0))
    assert (None if found is None else found[0].item()) == taken


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_lbfgs_has_no_units(unit, factor):
    level = Level(lambda x, y: factor * ((y / unit - 1) ** 4).sum(), X)
    found = _lbfgs(level, unit * vector(3.0, 2.0))
    assert float((found / unit - 1).norm()) <= 0.1
    assert level.asked < 200


def test_lbfgs_keeps_the_best_when_it_has_spent_all():
    level = Level(quadratic(1.0, 100.0), X, allowance=3.0)
    with pytest.raises(Spent) as raised:
        _lbfgs(level, vector(5.0, 5.0))
    best = raised.value.best
    assert isinstance(best, Found)
    assert (best.error, best.inverse, best.free, best.why) == (math.inf, None, None, "")
    assert float(quadratic(1.0, 100.0)(X, best.y)) <= float(quadratic(1.0, 100.0)(X, vector(5.0, 5.0)))


def test_methods_follow_each_other(monkeypatch):
    """Newton's method, L-BFGS, Newton's again; the matrix where it was not used before and is not too large."""
    asked = []

    def newton(level, last, dense, factor):
        asked.append("dense" if dense else "products")
        return last._replace(why="no")

    monkeypatch.setattr(lower, "_newton", newton)
    monkeypatch.setattr(lower, "_lbfgs", lambda level, y: asked.append("lbfgs") or y)

    def order(n, convex=True):
        asked.clear()
        solve(Level(quadratic(1.0), X), torch.ones(n).double(), convex)
        return asked[:]

    assert order(200) == ["dense", "lbfgs", "dense"]
    assert order(201) == ["products", "lbfgs", "products", "dense"]
    assert order(1500)[-1] == "dense"
    assert order(1501) == ["products", "lbfgs", "products"]
    assert order(2, convex=False) == ["lbfgs", "dense", "lbfgs", "dense"]
    monkeypatch.setattr(lower, "_newton", lambda level, last, dense, factor: asked.append("dense") or last)
    assert order(2) == ["dense"]
