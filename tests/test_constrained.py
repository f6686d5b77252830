"""Constrained and nonsmooth lower levels: each answer and each optimum once more by a method of another kind."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bilevelbench import Draw, Oracle, Problem, Unsupported, build_problem, make_solver
from bilevelbench.core.solver import require
from bilevelbench.measure.judge import Judge


def build(text, seed=0):
    return build_problem(text, Draw(seed))


def phi_and_slope(problem):
    def fun(vector):
        x = torch.from_numpy(vector.copy()).requires_grad_()
        value = problem.f(x, problem.y_star(x))
        return float(value.detach()), torch.autograd.grad(value, x)[0].numpy()

    return fun


def lower_by_slsqp(problem, x):
    """argmin {g(x, y): h_g(x, y) = 0} from y0."""

    def fun(y):
        leaf = torch.from_numpy(y.copy()).requires_grad_()
        value = problem.g(x, leaf)
        return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()

    def residual(y):
        return float(problem.h_g(x, torch.from_numpy(y))[0])

    low = problem.project_y(torch.full_like(problem.y0, -1e9)).tolist() if problem.project_y else [None] * len(x) * 2
    bounds = [(a, None) for a in low]
    return minimize(
        fun, problem.y0.numpy(), jac=True, method="SLSQP", bounds=bounds, options={"ftol": 1e-15, "maxiter": 500},
        constraints={"type": "eq", "fun": residual},
    )  # fmt: skip


# -- a coupled equality


@pytest.mark.parametrize("text", ["coupled_equality(k=4)", "coupled_equality(k=4,cubic=True)"])
def test_the_optimistic_answer_of_the_coupled_equality(text):
    """Another solver finds the same g; of the minimisers, which differ by shifts of y2 with sum 0, f likes it best."""
    problem = build(text)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = torch.from_numpy(rng.normal(size=4))
        y = problem.y_star(x)
        assert float(problem.h_g(x, y).abs().max()) < 1e-12
        assert lower_by_slsqp(problem, x).fun == pytest.approx(float(problem.g(x, y)), abs=1e-8)
        for _ in range(50):
            shift = rng.normal(size=4)
            other = y + torch.from_numpy(np.concatenate([np.zeros(4), shift - shift.mean()]))
            assert float(problem.g(x, other)) == pytest.approx(float(problem.g(x, y)), abs=1e-12)
            assert float(problem.f(x, other)) > float(problem.f(x, y))


@pytest.mark.parametrize(
    "text", ["coupled_equality(k=3)", "coupled_equality", "coupled_equality(k=1,cubic=True)",
             "coupled_equality(k=3,cubic=True)", "coupled_equality(k=30,cubic=True)", "coupled_equality(cubic=True)"],
)  # fmt: skip
def test_phi_star_of_the_coupled_equality_by_descent_from_many_starts(text):
    problem = build(text)
    k, rng = len(problem.x0), np.random.default_rng(1)
    starts = [problem.x0.numpy(), *rng.normal(size=(20, k))]
    far_out = (-1.5, -2.0, -3.0, -4.0, -5.0)  # of one entry, as a guess for the cubic form
    starts += [np.r_[far, np.full(k - 1, -0.1)] for far in far_out]
    ends = [minimize(phi_and_slope(problem), s, jac=True, method="L-BFGS-B", options={"gtol": 1e-10}) for s in starts]
    assert min(end.fun for end in ends) == pytest.approx(problem.phi_star, abs=1e-8)


def test_the_published_points_of_the_coupled_equality():
    for text, x, y1, y2, value in (
        ("coupled_equality", -0.3, 0.7, -0.4, 5.0),
        ("coupled_equality(cubic=True)", -0.3907024827, 0.6092975173, -0.5496573968, 8.89575473),
    ):
        problem = build(text)
        point = torch.full((100,), x, dtype=torch.float64)
        answer = problem.y_star(point)
        assert answer[:100].tolist() == pytest.approx([y1] * 100)
        assert answer[100:].tolist() == pytest.approx([y2] * 100, abs=1e-9)
        assert float(problem.f(point, answer)) == pytest.approx(value, abs=1e-7)
        assert np.abs(phi_and_slope(problem)(point.numpy())[1]).max() < 1e-8, "stationary"
    assert problem.phi_star < value - 0.3, "the symmetric point of the cubic form is not its minimum at k = 100"
    assert build("coupled_equality(k=10,cubic=True)").phi_star == pytest.approx(0.889575473, abs=1e-8)


# -- the simplex and the box


def test_the_projection_on_the_simplex():
    problem = build("simplex_projection(d=5)")
    rng = np.random.default_rng(2)
    for _ in range(5):
        x = torch.from_numpy(rng.normal(size=5))
        np.testing.assert_allclose(lower_by_slsqp(problem, x).x, problem.y_star(x).numpy(), atol=1e-6)
    leaf = torch.tensor([0.9, 0.4, -1.0, 0.2, 0.1], dtype=torch.float64)
    kept = (problem.y_star(leaf) > 0).double()
    jacobian = torch.autograd.functional.jacobian(problem.y_star, leaf)
    torch.testing.assert_close(jacobian, torch.diag(kept) - torch.outer(kept, kept) / kept.sum())


@pytest.mark.parametrize("seed", range(3))
def test_phi_star_on_the_simplex(seed):
    problem = build("simplex_projection", seed)
    found = minimize(
        phi_and_slope(problem), np.full(10, 0.1) + 1e-3 * np.arange(10), jac=True, method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 300},
    )  # fmt: skip
    assert found.fun == pytest.approx(problem.phi_star, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_phi_star_on_the_box_by_a_grid(seed):
    """d = 2: y*(x) for all points of a grid of x at once, by projected descent; then a finer grid around the best."""
    problem = build("box_quadratic(d=2,kappa=3.0)", seed)
    leaf = problem.x0.new_zeros(2)
    A = torch.autograd.functional.hessian(lambda y: problem.g(leaf, y), leaf).numpy()
    centre, width = np.zeros(2), 8.0
    for _ in range(9):
        axis = np.linspace(-width, width, 41)
        x = centre + np.array(list(itertools.product(axis, axis)))
        y = np.zeros_like(x)
        for _ in range(150):
            y = np.clip(y - (y @ A - x), -1, 1)
        values = torch.func.vmap(problem.f)(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        centre, width = x[values.argmin()], width / 6
    assert values.min() == pytest.approx(problem.phi_star, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_phi_star_on_the_box_by_descent(seed):
    problem = build("box_quadratic(d=3)", seed)
    starts = 2 * np.random.default_rng(3).normal(size=(20, 3))
    ends = [minimize(phi_and_slope(problem), s, jac=True, method="L-BFGS-B") for s in starts]
    best = min(ends, key=lambda end: end.fun)
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000}
    best = minimize(lambda v: phi_and_slope(problem)(v)[0], best.x, method="Nelder-Mead", options=options)
    assert best.fun == pytest.approx(problem.phi_star, abs=1e-7)


# -- the elastic net


def soft(w, threshold):
    return w.sign() * torch.relu(w.abs() - threshold)


def nets(problem, penalties, steps=3000):
    """y*(x) for many penalties at once by FISTA with restarts; rows follow the penalties."""
    zero = torch.zeros_like(problem.y0)
    x = torch.zeros(2, dtype=torch.float64)
    gram = torch.autograd.functional.hessian(lambda y: problem.g(x, y + 1e-9), zero)
    moment = -torch.autograd.functional.jacobian(lambda y: problem.g(x, y), zero)
    x1, x2 = penalties[:, :1], penalties[:, 1:]
    size = 1 / (torch.linalg.eigvalsh(gram).max() + x2)
    w = z = torch.zeros(len(penalties), len(zero), dtype=torch.float64)
    t = torch.ones(len(penalties), 1, dtype=torch.float64)
    for _ in range(steps):
        new = soft(z - size * (z @ gram - moment + x2 * z), size * x1)
        restart = ((z - new) * (new - w)).sum(1, keepdim=True) > 0
        t = torch.where(restart, torch.ones_like(t), t)
        after = (1 + (1 + 4 * t**2).sqrt()) / 2
        z, w, t = new + torch.where(restart, 0.0, (t - 1) / after) * (new - w), new, after
    return w


def test_the_elastic_net_by_proximal_gradients():
    problem = build("elastic_net")
    penalties = torch.tensor([[1.0, 0.5], [5.0, 0.1], [20.0, 3.0], [0.3, 30.0]], dtype=torch.float64)
    for x, w in zip(penalties, nets(problem, penalties), strict=True):
        torch.testing.assert_close(problem.y_star(x), w, rtol=0, atol=1e-7)
    split = build("elastic_net(form='split')")
    for x in penalties:
        y = split.y_star(x)
        torch.testing.assert_close(y[:50] - y[50:], problem.y_star(x))
        assert float(split.g(x, y)) == pytest.approx(float(problem.g(x, problem.y_star(x))))


def test_phi_star_of_the_elastic_net_by_a_grid():
    """Two nested grids of penalties: none has a lesser Phi, and one comes near."""
    problem = build("elastic_net")
    other = build("elastic_net(form='split')")
    assert other.phi_star == pytest.approx(problem.phi_star, rel=1e-9)  # both by a local search
    centre, width, least = torch.tensor([0.0, 0.0]).double(), 5.0, np.inf
    for _ in range(4):
        axis = torch.linspace(-width, width, 13).double()
        x = torch.exp(centre + torch.cartesian_prod(axis, axis)).clamp(min=1e-3)
        values = torch.func.vmap(problem.f)(x, nets(problem, x, 600))
        centre, width = torch.log(x[values.argmin()]), width / 4
        least = min(least, float(values.min()))
        assert least >= problem.phi_star - 1e-5
    assert least == pytest.approx(problem.phi_star, rel=1e-3)


def test_the_hypergradient_of_the_elastic_net_is_that_of_its_active_set():
    problem, h = build("elastic_net"), 1e-5
    x = torch.tensor([2.0, 0.7], dtype=torch.float64)
    _, slope = phi_and_slope(problem)(x.numpy())
    for i, step in enumerate(h * torch.eye(2).double()):
        ahead, behind = (float(problem.f(v, problem.y_star(v))) for v in (x + step, x - step))
        assert slope[i] == pytest.approx((ahead - behind) / (2 * h), rel=1e-5)


# -- who may run, and how answers are judged


def test_solvers_that_know_no_constraints_are_told_so():
    for text in ("coupled_equality", "simplex_projection"):
        with pytest.raises(Unsupported, match="couple x and y"):
            require(make_solver("aid_cg"), build(text))
    require(make_solver("aid_cg"), build("box_quadratic"))


def test_the_judge_says_how_far_a_point_is_from_feasible():
    problem = build("coupled_equality")
    judge = Judge(problem)
    best = torch.full((100,), -0.3, dtype=torch.float64)
    found = judge(best, problem.y_star(best))
    assert found["violation"] == pytest.approx(0.0, abs=1e-10)
    assert found["phi_gap"] == pytest.approx(0.0, abs=1e-10)
    assert "stationarity" not in found, "BOME's measure knows no constraints"
    assert judge(best, problem.y_star(best) + 0.01)["violation"] == pytest.approx(2.0)


# -- a support vector machine


def _svm():
    try:
        return build("svm(n=40,m=30)")
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.data
def test_the_support_vector_machine_by_slsqp():
    problem = _svm()
    for shift in (0.0, 4.0):
        x = problem.x0 + shift
        y = problem.y_star(x)

        def fun(v, x=x):
            leaf = torch.from_numpy(v.copy()).requires_grad_()
            value = problem.g(x, leaf)
            return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()

        slack = torch.autograd.functional.jacobian(lambda v, x=x: problem.h_g(x, v), y).numpy()
        found = minimize(
            fun, problem.y0.numpy(), jac=True, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
            constraints={"type": "ineq", "fun": lambda v, x=x: -problem.h_g(x, torch.from_numpy(v)).numpy(),
                         "jac": lambda v, slack=slack: -slack},
        )  # fmt: skip
        assert found.fun == pytest.approx(float(problem.g(x, y)), rel=1e-7)
        np.testing.assert_allclose(found.x[:11], y[:11].numpy(), atol=1e-4)


@pytest.mark.data
def test_the_hypergradient_of_the_support_vector_machine():
    problem, h = _svm(), 1e-4
    _, slope = phi_and_slope(problem)(problem.x0.numpy())
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=40))
    ahead, behind = (
        float(problem.f(v, problem.y_star(v))) for v in (problem.x0 + h * direction, problem.x0 - h * direction)
    )
    assert float(slope @ direction.numpy()) == pytest.approx((ahead - behind) / (2 * h), rel=1e-4)


@pytest.mark.data
def test_the_support_vector_machine_learns_and_its_sets_do_not_meet():
    problem = _svm()
    found = problem.metrics(problem.x0, problem.y_star(problem.x0))
    assert found["test_accuracy"] > 0.9
    assert set(found) == {"accuracy", "test_accuracy"}
    assert problem.metrics(problem.x0, -problem.y_star(problem.x0))["test_accuracy"] < 0.1


# -- the sine with constraints


@pytest.mark.parametrize(("knobs", "value"), [("c=1.0", 8.0), ("c=2.0", None), ("c=1.0,m=2", 32 / 3), ("c=-2.0", None)])
def test_the_constrained_sine_by_brute_force(knobs, value):
    """x and y on grids of one step, so that x + y meets 0 and 1; of the feasible y, those of least g; of these, f."""
    problem = build_problem(f"sine(constrained=True,{knobs})", Draw(0))
    if value is not None:
        assert problem.phi_star == pytest.approx(value, abs=1e-12)
    step = 0.005 if problem.y0.numel() == 1 else 0.05
    xs = step * torch.arange(-round(2 / step), round(3 / step)).double()
    t = step * torch.arange(-round(0.5 / step), round(1.5 / step) + 1).double()  # of x + y, beyond the constraint too
    best = []
    for x in xs[:, None]:
        ys = torch.cartesian_prod(*[t - x] * problem.y0.numel()).reshape(-1, problem.y0.numel())
        f, g, h = (torch.func.vmap(function, (None, 0))(x, ys) for function in (problem.f, problem.g, problem.h_g))
        feasible = h.max(1).values <= 1e-9
        least = feasible & (g <= g[feasible].min() + 1e-12)
        best.append(float(f[least].min()))
        y = problem.y_star(x)
        assert float(problem.g(x, y)) <= float(g[feasible].min()) + 1e-12
        assert float(problem.f(x, y)) == pytest.approx(best[-1], abs=6 * step)
    assert min(best) == pytest.approx(problem.phi_star, abs=6 * step)


def test_lv_hba_solves_the_constrained_sine():
    problem = build_problem("sine(constrained=True,c=1.0,m=2)", Draw(0))
    solver = make_solver("lv_hba(lr=0.05,lr_inner=0.3,lr_mu=0.3,gamma=2.0,gamma2=2.0)")
    oracle = Oracle(problem)
    state = solver.init(oracle, problem.x0, problem.y0)
    for _ in range(1500):
        state = solver.step(oracle, state)
    assert float(state.x) == pytest.approx(-2 / 3, abs=1e-2)
    np.testing.assert_allclose(state.y, 2 / 3, atol=1e-2)


@settings(max_examples=15)
@given(units=st.tuples(*[st.integers(-10, 10).map(lambda k: 10.0**k)] * 3), off=st.sampled_from([-1e-3, 1e-10, 1e-3]))
def test_what_violates_a_constraint_above_has_no_units(units, off):
    """x + y <= 4 at x = y = 2, in units of h, x and y; off by a part of that, which rounding is, or is not."""
    of_h, of_x, of_y = units
    problem = Problem(
        f=lambda x, y, rows=None: (x / of_x).sum() ** 2, g=lambda x, y, rows=None: ((y / of_y - 2) ** 2).sum(),
        x0=torch.zeros(1, dtype=torch.float64), y0=torch.zeros(1, dtype=torch.float64),
        y_star=lambda x: 2 * of_y + 0 * x, h_f=lambda x, y: of_h * (x / of_x + y / of_y - 4), phi_star=5.0,
        phi_star_source="a test",
    )  # fmt: skip
    x = torch.full((1,), 2 * (1 + off) * of_x, dtype=torch.float64)
    found = Judge(problem)(x, problem.y_star(x))
    inside = found["phi"] - 5.0
    assert found["phi_gap"] == pytest.approx(max(inside, found["violation"]) if off > 1e-6 else inside, rel=1e-9)
