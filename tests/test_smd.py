"""The SMD suite: published optima, lower solutions and constrained optima by searches that do not know them."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bilevelbench import Draw, build_problem
from bilevelbench.problems import smd as module

FREE, HELD = (1, 2, 3, 4, 5, 6, 7, 8), (10, 11, 12)


def build(number, seed=0, **sizes):
    knobs = "".join(f",{k}={v}" for k, v in sizes.items())
    return build_problem(f"smd(number={number}{knobs})", Draw(seed))


def bounds(problem, of="y"):
    project, start = (problem.project_y, problem.y0) if of == "y" else (problem.project_x, problem.x0)
    low, high = (project(torch.full_like(start, sign * math.inf)) for sign in (-1, 1))
    return low, high


@pytest.mark.parametrize("number", FREE)
@pytest.mark.parametrize("sizes", [{}, {"p": 3, "q": 3, "r": 2}])
def test_the_published_optimum(number, sizes):
    problem = build(number, **sizes)
    x = 1e-9 * torch.ones_like(problem.x0)
    y = problem.y_star(x)
    assert problem.phi_star == 0.0
    assert float(problem.f(x, y)) == pytest.approx(0.0, abs=1e-8)
    assert float(problem.g(x, y)) == pytest.approx(0.0, abs=1e-7)
    d = {2: 1.0, 7: 1.0}.get(number, 0.0)
    c = 1.0 if number in (5, 8) else 0.0
    q = sizes.get("q", 2)
    np.testing.assert_allclose(y[:q], c, atol=1e-9)
    np.testing.assert_allclose(y[q:], d, atol=2e-3)  # a cube root of 1e-9 in 8


@pytest.mark.parametrize("number", FREE)
def test_lower_solutions_by_a_grid(number):
    """5-D: c and d apart, since g is a sum of the two; Phi by the same grids is nowhere below 0."""
    problem = build(number)
    low, high = bounds(problem)
    axes = [torch.linspace(float(a), float(b), 1201).double() for a, b in zip(low, high, strict=True)]
    ends = bounds(problem, "x")
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = torch.from_numpy(rng.uniform(*(part.numpy() for part in ends)))
        best = problem.y_star(x)
        least = float(problem.g(x, best))
        planes = torch.cartesian_prod(axes[0][::4], axes[1][::4])
        c = torch.cat([planes, best[2:].expand(len(planes), 1)], 1)
        d = torch.cat([best[:2].expand(1201, 2), axes[2][:, None]], 1)
        for points in (c, d):
            values = torch.func.vmap(problem.g, (None, 0))(x, points)
            assert float(values.min()) >= least - 1e-9
        assert float(problem.f(x, best)) >= 0.0


def test_two_answers_of_smd5_and_the_flat_pairs_of_smd6():
    five = build(5, p=2, q=3, r=2)
    x = torch.tensor([1.0, -2.0, 3.0, -4.0], dtype=torch.float64)
    y = five.y_star(x)
    other = y * torch.tensor([1, 1, 1, -1, 1]).double()
    assert float(five.g(x, other)) == pytest.approx(float(five.g(x, y)), rel=1e-12)
    assert float(five.f(x, other)) == pytest.approx(float(five.f(x, y)), rel=1e-12)
    six = build(6, p=2, q=5, r=2, s=4)
    y = six.y_star(x)
    other = y + torch.tensor([0, 2.0, 2.0, -1.0, -1.0, 0, 0]).double()
    assert float(six.g(x, other)) == pytest.approx(float(six.g(x, y)), rel=1e-12)
    assert float(six.f(x, other)) == pytest.approx(float(six.f(x, y)) + 10.0)
    assert float(six.g(x, y + torch.tensor([0, 2.0, 1.0, 0, 0, 0, 0]).double())) == pytest.approx(
        float(x[:2] @ x[:2]) + 1
    )


def test_f_falls_below_its_optimum_off_the_lower_solution():
    for number in (2, 4, 5, 7, 8):
        problem = build(number, seed=1)
        x = torch.zeros_like(problem.x0) + 0.1
        assert float(problem.f(x, problem.y0)) < problem.phi_star - 0.1


# -- constraints


@pytest.mark.parametrize(("number", "sizes", "value", "lower"), [
    (10, {}, 4.0, 3.0), (11, {}, -1.0, 1.0), (12, {}, 3.0, 4.0), (11, {"p": 2, "q": 2, "r": 2}, -1.0, 1.0),
    (10, {"p": 3, "q": 3, "r": 2}, 12.75, None), (12, {"p": 3, "q": 3, "r": 1}, None, None),
])  # fmt: skip
def test_constrained_optima(number, sizes, value, lower):
    """Phi by descent in x from many starts, h_f at (x, y*(x)) as a constraint: SLSQP ends at Phi*, never below it."""
    problem = build(number, **sizes)
    if value is not None:
        assert problem.phi_star == pytest.approx(value, abs=1e-12)
    n, low, high = len(problem.x0), *(part.numpy() for part in bounds(problem, "x"))
    rng = np.random.default_rng(0)

    def phi(v):
        x = torch.from_numpy(v.copy())
        return float(problem.f(x, problem.y_star(x)))

    def room(v):
        x = torch.from_numpy(v.copy())
        return -problem.h_f(x, problem.y_star(x)).numpy()

    found = []
    for start in [np.full(n, 0.5), *rng.uniform(np.maximum(low, -2), np.minimum(high, 2), (12, n))]:
        end = minimize(phi, start, method="SLSQP", bounds=list(zip(low, high, strict=True)),
                       constraints={"type": "ineq", "fun": room}, options={"ftol": 1e-12, "maxiter": 300})  # fmt: skip
        if room(end.x).min() > -1e-7:
            found.append((end.fun, *end.x))
    best = min(found)
    assert best[0] == pytest.approx(problem.phi_star, abs=1e-5)
    x = torch.tensor(best[1:], dtype=torch.float64)
    if lower is not None:
        assert float(problem.g(x, problem.y_star(x))) == pytest.approx(lower, abs=1e-3)


@pytest.mark.parametrize("number", HELD)
def test_constrained_lower_solutions_by_a_grid(number):
    """5-D, x feasible: no feasible point of a grid has a smaller g, or as small a g and a smaller f where h_f holds."""
    problem = build(number)
    low, high = bounds(problem)
    x = torch.tensor([0.6, 0.5], dtype=torch.float64)
    best = problem.y_star(x)
    assert float(problem.h_f(x, best).max()) <= 1e-12
    assert float(problem.h_g(x, best).max()) <= 1e-12
    near = torch.linspace(-2, 4, 61).double()
    axes = [near, near, torch.linspace(float(low[2]), float(high[2]), 301).double()]
    grid = torch.cartesian_prod(*axes)
    f, g, h_f, h_g = (
        torch.func.vmap(fn, (None, 0))(x, grid) for fn in (problem.f, problem.g, problem.h_f, problem.h_g)
    )
    feasible = h_g.max(1).values <= 1e-6
    least = float(problem.g(x, best))
    assert float(g[feasible].min()) >= least - 1e-5
    assert float(g[feasible].min()) <= least + 0.02
    good = feasible & (g <= least + 1e-3) & (h_f.max(1).values <= 0)
    assert not bool((f[good] < float(problem.f(x, best)) - 0.02).any())


def cubes(v):
    """The violation of v_i >= sum_{j != i} v_j^3, in numpy."""
    return np.sum(v**3) - v**3 - v


def test_the_published_solution_of_smd10_is_not_the_least_in_twenty_variables():
    """Why sizes are limited: x = (-s, -s, t, .., t), with a lower solution that a grid and an inversion confirm."""
    n, q, published = 20, 2, 19**-0.5
    x = np.r_[np.full(2, -2.338), np.full(n - 2, 0.834)]
    assert cubes(x).max() <= 0  # h_f
    c, d = np.ones(q), np.arctan(x[10:])
    assert cubes(c).max() <= 0  # h_g
    points = np.stack(np.meshgrid(*[np.linspace(-5, 10, 1501)] * q), -1).reshape(-1, q)
    feasible = points[(points[:, ::-1] ** 3 <= points + 1e-12).all(1)]
    assert np.square(feasible - 2).sum(1).min() >= np.square(c - 2).sum() - 1e-9  # c is the best below
    z = module.Parts(*map(torch.from_numpy, (x[:10], x[10:], c, d)))
    assert float(module.gap(10, z).abs().max()) < 1e-12  # and so is d: its part of g is 0
    value = float(module.upper(10, z, 2))
    assert value == pytest.approx(np.square(x - 2).sum() + c @ c, abs=1e-9)
    assert value < n * (published - 2) ** 2 + 2 - 0.5
    assert value == pytest.approx(62.11 + 2, abs=0.01)
    assert module.optimum(10, 10, 2, 10) == pytest.approx(62.699 + 2, abs=1e-3)
    with pytest.raises(Exception, match="at most 16"):
        build(10, p=10, r=10)


def test_the_published_solution_of_smd12_is_not_optimistic_with_p_and_r_above_one():
    """p = r = 2: at the published x, another d with the least |b - tan d|^2 that is allowed, 1, has a smaller f."""
    x, root = np.full(4, 3**-0.5), 2**-0.5
    a, b, c = x[:2], x[2:], np.ones(2)
    values = []
    for angle in (np.pi / 4, np.arccos(b[0])):  # the published b - tan d = (1, 1) / sqrt 2, and (b, sqrt(1 - b^2))
        u = np.array([np.cos(angle), np.sin(angle)])
        z = module.Parts(*map(torch.from_numpy, (a, b, c, np.arctan(b - u))))
        held = module.gap(12, z)
        np.testing.assert_allclose(held, u, atol=1e-12)
        assert float(held.min()) >= 0  # h_f
        assert max(cubes(x).max(), cubes(c).max(), 1 - float(held.square().sum())) <= 1e-12
        assert float(module.lower(12, z, 2)) == pytest.approx(
            a @ a + 2 + 1
        )  # least: c = 1 by the grid above, h_g says >= 1
        values.append(float(module.upper(12, z, 2)))
    assert values[0] == pytest.approx(module.optimum(12, 2, 2, 2) + abs(x[0] - root))  # one |tan d| for each of two
    assert values[1] < values[0] - 0.02
    with pytest.raises(Exception, match="r is 1"):
        build(12, p=2, r=2)


def test_starts_fill_the_ranges():
    starts = torch.stack([torch.cat([p.x0, p.y0]) for p in (build(2, seed) for seed in range(40))])
    assert float(starts[:, 0].min()) < -3
    assert float(starts[:, 0].max()) > 8
    assert float(starts[:, 1].max()) <= 1
    assert float(starts[:, 4].min()) > 0
    assert float(starts[:, 4].max()) <= math.e


def test_smd22_among_the_penalty_examples():
    """All minimisers of g have one f, |Ax|^2, by moves along the null space of A; Phi vanishes where Ax does."""
    problem = build_problem("penalty_example(example=5)", Draw(0))
    x = 0.2 * problem.x0
    y = problem.y_star(x)
    hessian = torch.autograd.functional.hessian(lambda v: problem.g(x, v), y)
    values, vectors = torch.linalg.eigh(hessian)
    null = vectors[:, values < 1e-9]
    assert null.shape == (20, 10)
    for shift in null.T:
        assert float(problem.g(x, y + shift)) == pytest.approx(0.0, abs=1e-18)
        assert float(problem.f(x, y + shift)) == pytest.approx(float(problem.f(x, y)))
    assert float(problem.f(x, y)) == pytest.approx(0.5 * float(x @ hessian @ x))
    flat = null @ null.T @ x
    assert float(problem.f(flat, problem.y_star(flat))) == pytest.approx(problem.phi_star, abs=1e-18)
    assert problem.metrics(flat, problem.y_star(flat))["error"] == pytest.approx(0.0, abs=1e-7)
