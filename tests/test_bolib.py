"""The BOLIB selection: published solutions, and every optimum by brute force on grids that know no polynomial."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from bilevelbench import Draw, build_problem
from bilevelbench.problems._bolib import INSTANCES
from bilevelbench.problems.bolib import Name

# x*, y*, F*, f* of independent computations; several points where there are several solutions. Not BOLIB's own values
# in Mirrlees1999, MitsosBarton2006Ex318 and FalkLiu1995, which are not optimal.
KNOWN = {
    "HenrionSurowiec2011": ([(-0.5, -0.5)], -0.25, -0.125),
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


def build(name, seed=0, start="uniform"):
    return build_problem(f"bolib(name='{name}',start='{start}')", Draw(seed))


def whole(value, n):
    return torch.full((n,), value, dtype=torch.float64)


def test_the_group_is_complete():
    assert set(get_args(Name)) == set(INSTANCES) == set(KNOWN)
    assert len(KNOWN) == 25


@pytest.mark.parametrize("name", KNOWN)
def test_the_published_solutions(name):
    points, value, lower = KNOWN[name]
    problem = build(name)
    n = len(problem.x0)
    assert problem.phi_star == pytest.approx(value, abs=1e-9)
    found = []
    for x, y in points:
        assert float(problem.f(whole(x, n), whole(y, n))) == pytest.approx(value, abs=2e-8)
        assert float(problem.g(whole(x, n), whole(y, n))) == pytest.approx(lower, abs=2e-8)
        found.append(float(problem.f(whole(x, n), problem.y_star(whole(x, n)))))
    if name not in ("Mirrlees1999", "MitsosBarton2006Ex316"):  # the digits of x* break the tie there
        assert found[0] == pytest.approx(value, abs=1e-8)


def grids(instance):
    """x over its range, with round numbers among them, and y finer."""
    low, high = instance.x if instance.x else (-2.0, 12.0)
    x = torch.linspace(low, min(high, 4.0) if instance.x else high, 801, dtype=torch.float64)
    y = torch.linspace(*(instance.y or (-120.0, 120.0)), 4001, dtype=torch.float64)
    return x[:, None], y[None, :]


def relaxed(instance, x, y, slack):
    """For each x the least f over points of the grid whose g is within ``slack`` of the least, and the strict one."""
    f, g = torch.broadcast_tensors(instance.f(x, y), instance.f(x, y))[0], instance.g(x, y)
    least = g.min(1, keepdim=True).values
    return torch.where(g <= least + slack, f, math.inf).min(1).values


ONE = [name for name, instance in INSTANCES.items() if instance.n == 1 and instance.answer is None]


@pytest.mark.parametrize("name", ONE)
def test_phi_star_by_brute_force(name):
    """No x of a grid has an optimistic value clearly below Phi*, and the best comes near it.

    On a grid of y with step h the least g is off by at most M h^2 / 8 where it is inside and M' h at a bound; points
    that good count as lower solutions, so that what is found is a lower bound on Phi up to the grid of x.
    """
    instance = INSTANCES[name]
    x, y = grids(instance)
    h = float(y[0, 1] - y[0, 0])
    values = relaxed(instance, x, y, 8 * h**2)
    assert float(values.min()) == pytest.approx(instance.phi, abs=0.03)
    best = x[values.argmin(), 0]
    near = torch.linspace(float(best) - 0.01, float(best) + 0.01, 201, dtype=torch.float64)
    near = near.clamp(*(float(bound) for bound in (instance.x or (-math.inf, math.inf))))[:, None]
    near = torch.cat([near, best.reshape(1, 1)])
    finer = torch.linspace(*instance.y, 20001, dtype=torch.float64)[None, :]
    values = relaxed(instance, near, finer, 8 * (h / 5) ** 2)
    assert float(values.min()) == pytest.approx(instance.phi, abs=0.008)


@pytest.mark.parametrize("name", ONE)
def test_the_optimistic_answer_by_brute_force(name):
    """y*(x) has the least g of a fine grid of y, and no grid point that is as good to 1e-13 has a lesser f."""
    instance, problem = INSTANCES[name], build(name)
    low, high = instance.x if math.isfinite(instance.x[1]) else instance.draw
    rng = np.random.default_rng(0)
    y = torch.linspace(*instance.y, 20001, dtype=torch.float64)[:, None]
    for point in [low, high, (low + high) / 2, *rng.uniform(low, high, 40)]:
        x = whole(float(point), 1)
        best = problem.y_star(x)
        g, f = instance.g(x, y), instance.f(x, y)
        assert float(problem.g(x, best)) <= float(g.min()) + 1e-12
        assert float(problem.g(x, best)) >= float(g.min()) - 1e-6, "the grid is fine enough to come near"
        as_good = g <= float(problem.g(x, best)) + 1e-13
        assert not bool((as_good & (f < float(problem.f(x, best)) - 1e-3)).any())


@pytest.mark.parametrize("name", [name for name, instance in INSTANCES.items() if instance.answer is not None])
def test_phi_star_of_those_with_a_closed_form(name):
    """Against grids of x, coordinate by coordinate since they are sums; the answer against a grid of y."""
    instance, problem = INSTANCES[name], build(name)
    n = instance.n
    x = torch.linspace(-2, 12, 14001, dtype=torch.float64)
    if n == 10:
        x, grid = x[::10], whole(0.0, 10)
        values = torch.stack([problem.f(v.expand(10), grid) for v in x])
        assert float(values.min()) == pytest.approx(problem.phi_star, abs=1e-12)
        ys = torch.from_numpy(np.random.default_rng(0).uniform(-math.pi, math.pi, (5000, 10)))
        assert bool((torch.func.vmap(lambda y: problem.g(problem.x0, y))(ys) > 1.0).all())
        return
    values = n * instance.f(x, instance.answer(x))
    assert float(values.min()) == pytest.approx(problem.phi_star, abs=2e-3)
    assert float(values.min()) >= problem.phi_star - 1e-12
    y = torch.linspace(*(instance.y or (-120, 120)), 24001, dtype=torch.float64)
    for v in (-1.0, 0.3, 1.0, 10.5):
        g = instance.g(torch.tensor(v, dtype=torch.float64), y)
        answer = instance.answer(whole(v, n))[0]
        assert float(instance.g(torch.tensor(v, dtype=torch.float64), answer)) <= float(g.min()) + 1e-12


def test_what_bolib_lists_and_is_not_optimal():
    """Its own values: a KKT point of Mirrlees1999, (0.5, 0) of Ex3.18, sqrt(3)/2 of FalkLiu1995."""
    mirrlees = build("Mirrlees1999")
    x, y = whole(1.9912238453, 1), whole(0.8947079966, 1)
    assert float(mirrlees.f(x, y)) == pytest.approx(0.0111634269, abs=1e-9)
    assert float(mirrlees.g(x, mirrlees.y_star(x))) < float(mirrlees.g(x, y)) - 0.5, "not a global lower solution"
    ex318 = build("MitsosBarton2006Ex318")
    assert float(ex318.f(whole(0.5, 1), ex318.y_star(whole(0.5, 1)))) == pytest.approx(-0.25)
    assert ex318.phi_star == -1.0
    falk = build("FalkLiu1995")
    x = whole(math.sqrt(3) / 2, 2)
    assert float(falk.f(x, falk.y_star(x))) == pytest.approx(-2.1962, abs=1e-4)
    assert falk.phi_star < -2.2


def test_starts():
    assert build("MitsosBarton2006Ex310", start="middle").x0.tolist() == [0.55]
    assert build("DeSilva1978", start="middle").y0.tolist() == [0.5, 0.5]
    xs = np.array([build("MitsosBarton2006Ex324", seed).x0.item() for seed in range(20)])
    assert xs.min() >= 0
    assert xs.max() <= 1
    assert xs.std() > 0.15


def test_the_implicit_derivative_of_the_answer():
    problem, x = build("MitsosBarton2006Ex319"), torch.tensor([0.3], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(problem.y_star, x)
    assert float(jacobian) == pytest.approx(0.5 / math.sqrt(0.3), rel=1e-9)
    at_bound = torch.tensor([-1.0], dtype=torch.float64)
    problem = build("MitsosBarton2006Ex315")
    assert not problem.y_star(at_bound.requires_grad_()).requires_grad
