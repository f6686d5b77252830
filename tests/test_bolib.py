"""BOLIB: formulas, bounds and answers, class by class; every certified value attained, many by brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from bilevelbench import Draw, build_problem
from bilevelbench.contract import problems as contract
from bilevelbench.core.errors import RequestError
from bilevelbench.lower.level import NoAnswer
from bilevelbench.problems._bolib import STRUCTURES, difference, formula, rows
from bilevelbench.problems.bolib import ABSENT
from tests.campaigns.bolib_pessimistic import at_the_optimum
from tests.campaigns.bolib_shares import shares

# x*, y*, F*, f* of computations by hand or by others than us; several points where there are several solutions. Not
# BOLIB's own values in Mirrlees1999, MitsosBarton2006Ex318 and FalkLiu1995, which are not optimal.
KNOWN = {
    "HenrionSurowiec2011": ([(0.0, 0.0)], 0.0, 0.0),
    "LamparielloSagratella2017Ex32": ([(0.5, 0.5)], 0.5, 0.0),
    "MacalHurter1997": ([(10.0163934426, 0.8196721311)], 81.3278688525, -0.3359312013),
    "Mirrlees1999": ([(1.0, 0.9575040241)], 1.0018059080, -1.0198658183),
    "MitsosBarton2006Ex310": ([(0.1, 0.5)], 0.5, -0.1),
    "MitsosBarton2006Ex311": ([(0.0, -0.8)], -0.8, 0.0),
    "MitsosBarton2006Ex312": ([(0.0, 0.0)], 0.0, 0.0),
    "MitsosBarton2006Ex313": ([(0.0, 1.0)], -1.0, 0.0),
    "MitsosBarton2006Ex314": ([(0.25, 0.5)], 0.25, -1 / 12),
    "MitsosBarton2006Ex315": ([(-1.0, 1.0)], 0.0, -5 / 6),
    "MitsosBarton2006Ex316": ([(-1.0, 0.0), (-0.5, -1.0)], -2.0, 0.0),
    "MitsosBarton2006Ex317": ([(-0.25, 0.5), (-0.25, -0.5)], 0.1875, -1 / 64),
    "MitsosBarton2006Ex318": ([(1.0, 0.0)], -1.0, 0.0),
    "MitsosBarton2006Ex319": ([(0.1885804845, 0.4342585455)], -0.2580756165, -0.0177812996),
    "MitsosBarton2006Ex320": ([(0.5, 0.5)], 0.3125, -1 / 12),
    "MitsosBarton2006Ex321": ([(-112 / 202, 0.4 + 11.2 / 202)], 0.2095049505, -0.0655942560),
    "MitsosBarton2006Ex324": ([(0.2106621397, 1.7990964639)], -1.7547179268, 0.0),
    "PaulaviciusAdjiman2017a": ([(0.5, 0.0)], 0.25, 0.0),
    "PaulaviciusAdjiman2017b": ([(-1.0, -1.0)], -2.0, -1.5),
    "DeSilva1978": ([(0.5, 0.5)], -1.0, 0.0),
    "FalkLiu1995": ([(0.75, 0.75)], -2.25, 0.0),
    "SinhaMaloDeb2014TP9": ([(1.0, 0.0)], 0.0, 1.0),
    "LucchettiEtal1987": ([(1.0, 0.0)], 0.0, 0.0),
    "MorganPatrone2006a": ([(0.0, 1.0)], -1.0, 0.0),
    "KleniatiAdjiman2014Ex3": ([(0.0, 1.0)], -1.0, 0.0),
}
CERTIFIED = [name for name, row in rows().items() if not math.isnan(row.value)]
EXACT = [name for name, row in rows().items() if row.structure != "nonlinear_below"]
# of each structure some, by turns through the alphabet
SAMPLE = [name for structure in STRUCTURES for name in [n for n, r in rows().items() if r.structure == structure][::12]]


def build(name, seed=0, start="uniform"):
    return build_problem(f"bolib(name='{name}',start='{start}')", Draw(seed))


def whole(value, n):
    return torch.full((n,), value, dtype=torch.float64)


def test_all_of_the_collection_is_there_or_named():
    assert len(rows()) == 165
    assert len(ABSENT) == 8
    assert not set(rows()) & set(ABSENT)


def test_names_that_are_not_there_say_which_are():
    with pytest.raises(RequestError, match="Bard1984a"):
        build("Bard1984c")
    with pytest.raises(RequestError, match="not among ours: it is defined in pieces"):
        build("MorganPatrone2006b")


@pytest.mark.parametrize("name", KNOWN)
def test_the_published_solutions(name):
    points, value, lower = KNOWN[name]
    row = rows()[name]
    for x, y in points:
        at = whole(x, row.n_x), whole(y, row.n_y)
        assert float(row.F(*at)) == pytest.approx(value, abs=2e-8)
        assert float(row.f(*at)) == pytest.approx(lower, abs=2e-8)
    if name in CERTIFIED:
        assert row.value == pytest.approx(value, abs=1e-6)


def test_a_formula_says_what_it_means():
    x, y = torch.tensor([2.0]), torch.tensor([3.0, 5.0])
    assert float(formula("x1*y2**2/2 - sqrt(x1*2)", 1, 2)(x, y)) == pytest.approx(23.0)
    assert float(formula("sum(y/i)", 1, 2)(x, y)) == pytest.approx(5.5)
    assert difference("x1 >= 2*y1") == ["2*y1 - (x1)"]
    assert difference("x1 == 1") == ["x1 - (1)", "1 - (x1)"]


@pytest.mark.parametrize("name", CERTIFIED)
def test_certified_values_are_attained(name):
    """At the certified point F has its value, both levels are feasible, and no y that the library finds is better."""
    row = rows()[name]
    x, y = (torch.tensor(side, dtype=torch.float64) for side in row.solution)
    scale = 1 + abs(row.value)
    assert float(row.F(x, y)) == pytest.approx(row.value, abs=1e-6 * scale)
    for level in (row.G, row.g):
        assert level is None or float(level(x, y).max()) <= 2e-6
    for point, (low, high) in ((x, row.x), (y, row.y)):
        assert bool(((point >= torch.tensor(low) - 1e-7) & (point <= torch.tensor(high) + 1e-7)).all())
    if name in EXACT and row.answer is None:
        least = float(row.f(x, build(name, start="middle").y_star(x)))
        assert float(row.f(x, y)) <= least + 1e-6 * (1 + abs(least))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_keeps_the_contract_of_problems(name):
    keeps_the_contract(name)


@pytest.mark.full(sibling="test_a_sample_keeps_the_contract_of_problems")
@pytest.mark.parametrize("name", rows())
def test_all_keep_the_contract_of_problems(name):
    keeps_the_contract(name)


def keeps_the_contract(name):
    target = f"bolib(name='{name}')"
    contract.finite_at_the_start(target)
    contract.gradients_are_right(target)
    contract.second_order_products_are_right(target)
    contract.constraints_are_differentiable(target)
    contract.float32_agrees(target)


def test_answers_have_the_derivative_of_central_differences():
    """At drawn x, of every program and every problem with one y, wherever the same rows are active on both sides."""
    compared = 0
    for name in EXACT[::3]:
        problem = build(name)
        solution = problem.y_star
        if rows()[name].answer is not None:
            continue
        u = torch.from_numpy(np.random.default_rng(1).standard_normal(len(problem.x0)))
        try:
            below, here, above = (solution.answer(problem.x0 + h * u) for h in (-1e-6, 0.0, 1e-6))
        except NoAnswer:
            continue
        same = torch.equal(below.active, above.active) and torch.equal(below.active, here.active)
        if not same or here.degenerate or not here.unique or float((above.y - below.y).norm()) > 1e-3:
            continue
        jacobian = torch.autograd.functional.jacobian(solution, problem.x0)
        assert torch.allclose(jacobian @ u, (above.y - below.y) / 2e-6, rtol=1e-3, atol=1e-4), name
        compared += 1
    assert compared >= 15


ONE = [name for name in KNOWN if rows()[name].n_y == 1 and rows()[name].structure == "one_below"]


def values_on_a_grid(row, x, y):
    """F and f for all pairs of the two grids, of shape (x, y)."""
    left, right = x[None, :, None], y[None, None, :]
    return (torch.broadcast_to(level(left, right), (len(x), len(y))) for level in (row.F, row.f))


@pytest.mark.parametrize("name", ONE)
def test_phi_star_by_brute_force(name):
    """No x of a grid has an optimistic value clearly below Phi*, and the best comes near it.

    On a grid of y with step h the least f is off by at most M h^2 / 8 where it is inside and M' h at a bound; points
    that good count as lower solutions, so that what is found is a lower bound on Phi up to the grid of x.
    """
    row, value = rows()[name], KNOWN[name][1]
    low, high = (row.x[0][0], row.x[1][0]) if math.isfinite(row.x[0][0]) else row.draw
    x = torch.linspace(low, high, 801, dtype=torch.float64)
    y = torch.linspace(row.y[0][0], row.y[1][0], 4001, dtype=torch.float64)
    F, f = values_on_a_grid(row, x, y)
    slack = 8 * float(y[1] - y[0]) ** 2
    least = torch.where(f <= f.min(1, keepdim=True).values + slack, F, math.inf).min(1).values
    assert float(least.min()) == pytest.approx(value, abs=0.03)


@pytest.mark.parametrize("name", ONE)
def test_the_optimistic_answer_by_brute_force(name):
    """y*(x) has the least f of a fine grid of y, and no grid point that is as good to 1e-13 has a lesser F."""
    row, problem = rows()[name], build(name)
    low, high = (row.x[0][0], row.x[1][0]) if math.isfinite(row.x[0][0]) else row.draw
    y = torch.linspace(row.y[0][0], row.y[1][0], 20001, dtype=torch.float64)
    for point in [low, high, (low + high) / 2, *np.random.default_rng(0).uniform(low, high, 10)]:
        x = whole(float(point), 1)
        best = problem.y_star(x)
        F, f = values_on_a_grid(row, x, y)
        least = float(row.f(x, best))
        assert least <= float(f.min()) + 1e-12
        assert least >= float(f.min()) - 1e-6, "the grid is fine enough to come near"
        assert not bool(((f <= least + 1e-13) & (float(row.F(x, best)) - 1e-3 > F)).any())


def test_what_bolib_lists_and_is_not_optimal():
    """F at points that are feasible for both levels is less than what is stated."""
    for name, x, y, value in (
        ("MitsosBarton2006Ex318", [1.0], [0.0], -1.0),
        ("FalkLiu1995", [0.75, 0.75], [0.75, 0.75], -2.25),
        ("AiyoshiShimizu1984Ex2", [0.0, 0.0], [-10.0, -10.0], 0.0),
    ):
        row = rows()[name]
        point, answer = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
        assert row.G is None or float(row.G(point, answer).max()) <= 0
        assert torch.allclose(build(name).y_star(point), answer, atol=1e-9)
        assert float(row.F(point, answer)) == pytest.approx(value)
        assert row.stated[0] > value + 0.05


@pytest.mark.parametrize("name", [name for name, row in rows().items() if not math.isnan(row.pessimistic)])
def test_pessimistic_values_are_where_lower_solutions_differ(name):
    """At x* another lower solution has a larger F or breaks an upper constraint, and the value is above Phi*."""
    row = rows()[name]
    assert row.pessimistic > row.value
    assert at_the_optimum(row) > row.value + 1e-5 * (1 + abs(row.value))


def test_shares_are_of_what_a_solver_takes():
    table = pd.DataFrame(
        {"structure": ["linear", "linear", "one_below"], "solver": ["a", "a", "b"], "seed": 0,
         "status": ["done", "unsupported", "diverged"], "solved": [True, False, False]}
    )  # fmt: skip
    found = shares(table)
    assert found.loc["linear", "a"] == found.loc["all", "a"] == "1 of 1"
    assert found.loc["one_below", "b"] == "0 of 1"
    assert found.loc["linear", "b"] == "-"
