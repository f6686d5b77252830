"""Lower levels with constraints: solutions against their optimality conditions, derivatives against differences."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import bilevelbench as bb
from bilevelbench.core.errors import RequestError
from bilevelbench.lower.level import NoAnswer
from bilevelbench.lower.star import LowerSolution
from bilevelbench.measure.judge import Judge

INF = math.inf


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def random_program(seed, convex):
    """g = y'Hy/2 + (c + C x)'y on a bounded polyhedron A y <= b + B x that contains 0 at x = 0."""
    rng = np.random.default_rng(seed)
    n, m, k = (int(rng.integers(1, high)) for high in (5, 6, 4))
    half = rng.standard_normal((n, n)) * (convex == "strongly") + 0.0
    H, C, c, A, B = (
        torch.from_numpy(array)
        for array in (half @ half.T + 0.1 * np.eye(n) * (convex == "strongly"), rng.standard_normal((n, k)),
                      rng.standard_normal(n), rng.standard_normal((m, n)), rng.standard_normal((m, k)))
    )  # fmt: skip
    b = torch.from_numpy(rng.uniform(0.5, 1.5, m))
    weight = torch.from_numpy(rng.standard_normal(n))
    solution = LowerSolution(
        lambda x, y: weight @ y,
        lambda x, y: 0.5 * y @ H @ y + (c + C @ x) @ y,
        lambda x, y: A @ y - b - B @ x,
        torch.full((n,), -2.0),
        torch.full((n,), 2.0),
    )
    return solution, torch.from_numpy(0.2 * rng.standard_normal(k))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["strongly", "not at all: linear"]))
def test_programs_satisfy_their_optimality_conditions(seed, convex):
    solution, x = random_program(seed, convex)
    level = solution.level
    try:
        y, z, active, _ = solution.answer(x)
    except NoAnswer:
        return
    rows = level.rows(x, y)
    leaf = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(level.g(x, leaf) + (z * level.rows(x, leaf)).sum(), leaf)
    assert float(rows.max()) <= 1e-8
    assert float(slope.abs().max()) <= 1e-7
    assert float(z.min()) >= 0
    assert float((z * rows).abs().max()) <= 1e-7
    assert bool((rows[active].abs() <= 1e-7).all())


@pytest.mark.parametrize("convex", ["strongly", "not at all: linear"])
def test_derivatives_are_those_of_central_differences(convex):
    compared = 0
    for seed in range(25):
        solution, x = random_program(seed, convex)
        u = torch.from_numpy(np.random.default_rng(seed).standard_normal(len(x)))
        step = 1e-5 * u
        try:
            sides = [solution.answer(x + sign * step) for sign in (-1, 0, 1)]
        except NoAnswer:
            continue
        if any(not torch.equal(side.active, sides[0].active) or side.degenerate for side in sides):
            continue
        jacobian = torch.autograd.functional.jacobian(solution, x)
        difference = (sides[2].y - sides[0].y) / 2e-5
        assert torch.allclose(jacobian @ u, difference, rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared >= 10


def test_a_kink_is_said():
    solution = LowerSolution(lambda x, y: y.sum(), lambda x, y: ((y - x) ** 2).sum(), None, tensor(0.0), tensor(INF))
    assert solution.answer(tensor(0.0)).degenerate
    assert not solution.answer(tensor(1.0)).degenerate
    assert not solution.answer(tensor(-1.0)).degenerate


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_of_several_solutions_the_one_with_the_least_f_is_taken(sign):
    """At x = 0 every y of the triangle's side y1 + y2 = 1 is a solution."""
    solution = LowerSolution(
        lambda x, y: sign * y[0], lambda x, y: -(1 + x[0]) * y[0] - y[1], lambda x, y: y.sum().reshape(1) - 1,
        tensor(0.0, 0.0), tensor(INF, INF),
    )  # fmt: skip
    found = solution.answer(tensor(0.0))
    assert not found.unique
    assert torch.allclose(found.y, tensor(1.0, 0.0) if sign < 0 else tensor(0.0, 1.0), atol=1e-7)


def test_the_choice_among_several_where_f_is_concave():
    solution = LowerSolution(
        lambda x, y: -(y[0] ** 4) - y[0] / 10, lambda x, y: y[1], None, tensor(-1.0, 0.0), tensor(1.0, 1.0)
    )
    assert torch.allclose(solution.answer(tensor(0.0)).y, tensor(1.0, 0.0), atol=1e-7)


def line(g, h_g=None, f=lambda x, y: y.sum(), low=-2.0, high=2.0):
    return LowerSolution(f, lambda x, y: g(x[0], y[0]), h_g, tensor(low), tensor(high), method="line")


def test_one_y_is_solved_globally():
    well = line(lambda x, y: (y**2 - 1) ** 2 + x * y)
    assert float(well.answer(tensor(0.1)).y) == pytest.approx(-1.012, abs=1e-3)
    assert float(well.answer(tensor(-0.1)).y) == pytest.approx(1.012, abs=1e-3)
    tied = well.answer(tensor(0.0))
    assert float(tied.y) == pytest.approx(-1.0, abs=1e-7)  # f = y
    x = tensor(0.1).requires_grad_()
    (slope,) = torch.autograd.grad(well(x).sum(), x)
    y = float(well.answer(tensor(0.1)).y)
    assert float(slope) == pytest.approx(-1 / (12 * y**2 - 4), rel=1e-6)


def test_one_y_between_nonlinear_constraints():
    outside = line(lambda x, y: y, lambda x, y: 1 + x**2 - y**2)  # two pieces
    found = outside.answer(tensor(0.5))
    assert float(found.y) == pytest.approx(-2.0)
    inside = line(lambda x, y: y, lambda x, y: y**2 - x)
    x = tensor(0.25).requires_grad_()
    (slope,) = torch.autograd.grad(inside(x).sum(), x)
    assert float(slope) == pytest.approx(-1.0, rel=1e-6)  # y* = -sqrt(x)


def test_several_y_by_many_starts():
    solution = LowerSolution(
        lambda x, y: y[0], lambda x, y: -(y @ y), lambda x, y: (y @ y - 1 - x[0] ** 2).reshape(1),
        tensor(-3.0, -3.0), tensor(3.0, 3.0), method="several",
    )  # fmt: skip
    found = solution.answer(tensor(0.0))
    assert float(found.y.norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("g", "h_g", "error", "words"),
    [
        (lambda x, y: y @ y, lambda x, y: torch.stack([y[0] - 1, 2 - y[0]]), NoAnswer, "no feasible y"),
        (lambda x, y: y.sum(), lambda x, y: torch.stack([y[0] - 1, 2 - y[0]]), NoAnswer, "no feasible y"),
        (lambda x, y: y.sum(), lambda x, y: y - 1, NoAnswer, "falls without bound"),
        (lambda x, y: y[0] ** 2 + y[1], lambda x, y: y - 1, NoAnswer, "falls without bound"),
        (lambda x, y: y[0] ** 2 - 3 * y[1] ** 2, lambda x, y: y - 1, RequestError, "its Hessian in y is -6"),
        (lambda x, y: (y**4).sum(), lambda x, y: y - 1, RequestError, "no quadratic"),
        (lambda x, y: y @ y, lambda x, y: y**2 - 1, RequestError, "row 0 of h_g"),
    ],
)  # fmt: skip
def test_what_has_no_answer_says_so_in_one_sentence(g, h_g, error, words):
    solution = LowerSolution(lambda x, y: y.sum(), g, h_g, tensor(-INF, -INF), tensor(INF, INF))
    with pytest.raises(error, match=words) as raised:
        solution.answer(tensor(0.0))
    assert "\n" not in str(raised.value)


def test_methods_that_do_not_fit_are_refused():
    nothing = (lambda x, y: y.sum(), lambda x, y: y.sum(), None)
    with pytest.raises(RequestError, match="program, line, several"):
        LowerSolution(*nothing, tensor(0.0), tensor(1.0), method="simplex")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="for one y, not for 2"):
        LowerSolution(*nothing, tensor(0.0, 0.0), tensor(1.0, 1.0), method="line")


def test_a_judge_says_that_the_lower_level_has_no_solution():
    """At x < 0 no y lies in [0, x]: Phi is not made up, and the run goes on."""

    def f(x, y):
        return (x @ x) + y.sum()

    def g(x, y):
        return (y - 2) @ (y - 2)

    def h_g(x, y):
        return y - x

    solution = bb.LowerSolution(f, g, h_g, tensor(0.0), tensor(INF))
    problem = bb.Problem(f=f, g=g, x0=tensor(1.0), y0=tensor(0.5), y_star=solution, h_g=h_g, project_y=bb.box(0, INF))
    judge = Judge(problem)
    assert judge(tensor(1.0), tensor(0.5))["phi"] == pytest.approx(2.0)
    assert "phi" not in judge(tensor(-1.0), tensor(0.5))
    assert "no feasible y" in judge.unjudged
