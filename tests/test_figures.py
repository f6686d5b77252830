"""Figures of the judge and what is said of their digits, each at its bound."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from bilevelbench import Draw, Problem, build_problem
from bilevelbench.measure.feasible import FEASIBLE, violation
from bilevelbench.measure.gap import ENOUGH, gap
from bilevelbench.measure.inverse import Solved
from bilevelbench.measure.judge import Judge, _moved, _order
from bilevelbench.measure.level import Spent
from bilevelbench.measure.lower import STALLED, Found
from bilevelbench.measure.plan import Plan

QUADRATIC = build_problem("quadratic(d=3)", Draw(0))


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_plain_difference_is_taken_where_it_is_as_good():
    x, y, best = vector(0.0), vector(1.0), vector(0.0)
    asked = []

    def g(x, y):
        asked.append(1)
        return (y**2).sum() / 2

    assert gap(g, x, y, best) == pytest.approx(0.5)
    assert len(asked) == 2
    assert ENOUGH == 1e-10
    near = gap(lambda x, y: 1e6 + ((y - 1e-9) ** 2).sum() / 2, x, vector(2e-9), vector(1e-9))
    assert near == pytest.approx(5e-19, rel=1e-6)
    rough = gap(lambda x, y: 1e6 + 1e-7 * torch.sin(1e6 * y).sum(), x, vector(1e-2), best)
    plain = 1e-7 * math.sin(1e4)
    assert abs(rough - plain) <= 1e-9 * 1e6  # no better than rounding of the values allows


def judged(problem, x=None, y=None, **fields):
    made = Judge(dataclasses.replace(problem, **fields), Plan())
    return made(problem.x0 if x is None else x, problem.y0 if y is None else y), made


def test_figures_of_a_closed_form():
    best = QUADRATIC.y_star(QUADRATIC.x0)
    found, made = judged(QUADRATIC, y=best)
    assert found["phi"] == pytest.approx(float(QUADRATIC.f(QUADRATIC.x0, best)))
    assert found["f"] == pytest.approx(found["phi"])
    assert found["gap"] == pytest.approx(0.0, abs=1e-12)
    assert found["stationarity"] == pytest.approx(found["grad_phi"] ** 2 + found["gap"])
    assert found["phi_gap"] == pytest.approx(found["phi"] - QUADRATIC.phi_star)
    assert made.unjudged == ""
    assert list(found)[:5] == ["phi", "phi_gap", "gap", "grad_phi", "stationarity"]
    flat, _ = judged(QUADRATIC, f=lambda x, y: torch.zeros(()).double(), phi_star=None)
    assert (flat["phi"], flat["grad_phi"]) == (0.0, 0.0)


def test_stationarity_near_and_off_y_star():
    x, best = QUADRATIC.x0, QUADRATIC.y_star(QUADRATIC.x0)
    made = Judge(QUADRATIC)
    near, off = best + 0.9e-6 * best, best + 1.1e-6 * best
    assert made._stationarity(x, near, best, 0.25, 3.0) == 9.25
    assert made._stationarity(x, off, best, 0.25, 3.0) != 9.25
    assert math.isnan(made._stationarity(x, best, best, 0.25, None))
    flat = Judge(dataclasses.replace(QUADRATIC, g=lambda x, y: 0.0 * (x.sum() + y.sum())))
    assert flat._stationarity(x, best + 1, best, 0.25, 3.0) == 9.25
    for factor, expected in ((2.0, 9.0), (-2.0, 0.0)):  # along grad q f rises, or falls as far as lambda takes back
        g = lambda x, y, factor=factor: y.sum() * factor  # noqa: E731
        p = Problem(f=lambda x, y: y.sum() * 3.0, g=g, x0=vector(0.0), y0=vector(1.0))
        assert Judge(p)._stationarity(p.x0, vector(1.0), vector(0.0), 0.5, 3.0) == pytest.approx(expected + 0.5)


@pytest.mark.parametrize(
    ("error", "off", "shown"),
    [(0.0, 1.0, True), (0.9e-4, 1.0, True), (1.1e-4, 1.0, False), (0.9e-12, 0.0, True), (2e-12, 0.0, False)],
)
def test_a_gap_to_phi_star_is_shown_where_its_digits_are_known(error, off, shown):
    made = Judge(dataclasses.replace(QUADRATIC, phi_star=1.0))
    found = made._finished({"phi": 1.0 + off, "gap": 0.0}, QUADRATIC.x0, QUADRATIC.y0, QUADRATIC.y0, error)
    assert ("phi_gap" in found) is shown
    assert bool(made.unjudged) is not shown


def test_violations():
    h = lambda x, y: y - 1.0  # noqa: E731
    assert violation(None, vector(0.0), vector(5.0)) == 0.0
    assert violation(h, vector(0.0), vector(3.0, 2.0)) == 2.0
    assert violation(h, vector(0.0), vector(0.5)) == 0.0
    x, y = QUADRATIC.x0, QUADRATIC.y0
    size = float(x.norm())  # of what x contributes to this constraint
    for upper, phi, expected in (
        (0.9 * FEASIBLE * size, 0.0, 0.0), (1.1 * FEASIBLE * size, 0.0, 1.1 * FEASIBLE * size),
        (0.7, 0.5, 0.7), (0.7, 0.9, 0.9),
    ):  # fmt: skip
        made = Judge(
            dataclasses.replace(QUADRATIC, phi_star=0.0, h_f=lambda x, y, u=upper: (x.norm() - size + u).view(1))
        )
        found = made._finished({"phi": phi, "gap": 0.0}, x, y, y, 0.0)
        assert found["violation"] == pytest.approx(upper)
        assert found["phi_gap"] == pytest.approx(expected)
        assert "stationarity" in found
    made = Judge(dataclasses.replace(QUADRATIC, h_g=lambda x, y: vector(-1.0)))
    found = made._finished({"phi": 0.5, "gap": 0.0}, QUADRATIC.x0, QUADRATIC.y0, QUADRATIC.y0, 0.0)
    assert (found["violation"], "stationarity" in found) == (0.0, False)


class Exactly:
    """A linear solve with a stated error."""

    largest = 1.0

    def __init__(self, vector, off=0.0, convex=True):
        self._answer = Solved(vector, off, convex)

    def __call__(self, v, tolerance, near=None, length=0.0):
        return self._answer

    def valley(self, v):
        return 0.0


@pytest.mark.parametrize(
    ("off", "error", "convex", "shown"),
    [(0.0, 0.0, True, True), (0.0, 0.0, False, False), (1e-3, 0.0, True, False), (0.0, 1e-3, True, False),
     (1e-7, 0.0, True, True), (0.0, 1e-8, True, True)],
)  # fmt: skip
def test_a_hypergradient_is_shown_where_its_digits_are_known(off, error, convex, shown):
    level = SimpleNamespace(x=QUADRATIC.x0, cross=lambda y, v: vector(1.0, 2.0, 2.0), inside=lambda y: y, allowance=1)
    made, y = Judge(dataclasses.replace(QUADRATIC, y_star=None)), vector(1.0, 0.0, 0.0)
    found = Found(y, error, Exactly(vector(0.0, 1.0, 0.0), off, convex), None, vector(1.0, 0.0, 0.0), "")
    figures = made._hypergradient(level, found, vector(4.0, 2.0, 2.0), vector(1.0, 0.0, 0.0))
    # |cross| = 3 times what q may be off, 10 times what y may be, and 10 |f_x| times that
    expected = 3 * (off + 10 * error) + 10 * math.sqrt(24) * error
    assert figures["grad_phi_error"] == pytest.approx(expected)
    assert ("grad_phi" in figures) is shown
    if shown:
        assert figures["grad_phi"] == pytest.approx(3.0)
        assert made.unjudged == ""
    made._twice = False
    assert made._hypergradient(level, found, vector(4.0, 2.0, 2.0), y)["grad_phi_error"] == pytest.approx(
        expected + 3e-8
    )


def test_a_hypergradient_for_which_no_gradients_are_left_is_not_shown():
    def spends(y, v):
        raise Spent

    level = SimpleNamespace(x=QUADRATIC.x0, cross=spends, inside=lambda y: y, allowance=7)
    made = Judge(dataclasses.replace(QUADRATIC, y_star=None))
    found = Found(QUADRATIC.y0, 0.0, Exactly(QUADRATIC.y0), None, QUADRATIC.y0, "")
    assert made._hypergradient(level, found, QUADRATIC.x0, QUADRATIC.y0) == {}
    assert made.unjudged == "grad_phi: the 7 gradients of this look are spent"


def test_pieces_of_the_judge():
    assert _order(torch.tensor(2.0)) == 2.0
    assert _order(torch.tensor(math.nan)) == math.inf
    level = SimpleNamespace(inside=lambda y: y)
    found = Found(vector(1.0, 1.0), 0.5, None, None, vector(3.0, 4.0), "")
    assert _moved(found, level).tolist() == pytest.approx([0.7, 0.6])
    assert _moved(found._replace(slope=vector(0.0, 0.0)), level).tolist() == [1.0, 1.0]
    assert STALLED
