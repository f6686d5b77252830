"""Problems with a known answer: each optimum once more by a method that does not know the formula."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bilevelbench import Draw, Oracle, build_problem, make_solver
from bilevelbench.core.solver import start


def build(text, seed=0):
    return build_problem(text, Draw(seed))


def descend(problem, x, bounds=None):
    """Phi at a local minimum found by L-BFGS-B through torch's derivative of y*(x)."""

    def fun(vector):
        leaf = torch.from_numpy(vector.copy()).requires_grad_()
        value = problem.f(leaf, problem.y_star(leaf))
        return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()

    options = {"gtol": 1e-12, "ftol": 0, "maxiter": 20000, "maxfun": 100000}
    return minimize(fun, x.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)


@pytest.mark.parametrize(
    "text",
    ["finite_sum_quadratic(n=40,m=60,d=8,d_x=6)", "chain(d=30)", "chain(d=12,kappa=10,mu=1.0)", "finite_sum_quadratic"],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_phi_star_by_descent(text, seed):
    problem = build(text, seed)
    assert descend(problem, problem.x0).fun == pytest.approx(problem.phi_star, rel=1e-7, abs=1e-9)


def test_every_row_of_the_finite_sum_has_rank_one_and_they_average_to_the_whole():
    problem = build("finite_sum_quadratic(n=7,m=5,d=6,d_x=4)")
    x, y = problem.x0, problem.y0 + 0.3
    for function, n in ((problem.f, problem.n_f), (problem.g, problem.n_g)):
        rows = [function(x, y, torch.tensor([i])) for i in range(n)]
        torch.testing.assert_close(torch.stack(rows).mean(), function(x, y), rtol=1e-12, atol=1e-12)
        hessian = torch.autograd.functional.hessian(lambda v, fn=function: fn(x, v, torch.tensor([1])), y)
        values = torch.linalg.eigvalsh(hessian)
        assert int((values > 1e-10).sum()) == 1
        assert float(values.min()) > -1e-12


def test_the_finite_sum_is_conditioned_as_the_construction_says():
    """At the published sizes: mean lower Hessian within the published spectrum's order, hyper-Hessian positive."""
    problem = build("finite_sum_quadratic")
    hessian = torch.autograd.functional.hessian(lambda v: problem.g(problem.x0, v), problem.y0)
    values = torch.linalg.eigvalsh(hessian)
    assert 0.05 < float(values.min()) < 0.11
    assert 0.95 < float(values.max()) < 1.35
    hyper = torch.autograd.functional.hessian(lambda v: problem.f(v, problem.y_star(v)), problem.x0)
    assert 0.02 < float(torch.linalg.eigvalsh(hyper).min()) < 0.1


def test_information_moves_one_coordinate_per_product_along_the_chain():
    problem = build("chain(d=12)")
    solver, oracle = make_solver("aid_cg(lr=1.0,lr_inner=1.0,T=1,K=3)"), Oracle(problem)
    state = start(solver, problem, oracle)
    reached = []
    for k in range(3):
        oracle.begin(k)
        state = solver.step(oracle, state)
        reached.append(int((state.x != 0).sum()))
    assert reached[0] == 3  # q after three iterations: e_1 and two products
    assert reached[0] < reached[1] < 12


def test_the_least_norm_solution_is_that_of_the_pseudo_inverse():
    problem = build("min_norm", 2)
    y = problem.y_star(problem.x0)
    jacobian = torch.autograd.functional.jacobian(lambda v: torch.autograd.functional.vjp(
        lambda u: problem.g(problem.x0, u), v, create_graph=True)[1], problem.y0)  # fmt: skip
    values, vectors = torch.linalg.eigh(jacobian)
    null = vectors[:, values < 1e-10]
    assert null.shape == (50, 30)
    assert float((null.T @ y).norm()) < 1e-9, "y* has no part along which g is flat"
    assert float(problem.g(problem.x0, y)) < 1e-20
    assert problem.phi_star == pytest.approx(0.5 * float(y @ y))


def test_the_hypergradient_of_ridge_is_the_closed_form():
    problem = build("ridge(penalty='per_feature')")
    x = torch.linspace(-2, 1, 10).double().requires_grad_()
    (found,) = torch.autograd.grad(problem.f(x, problem.y_star(x)), x)
    w = problem.y_star(x.detach())
    hessian = torch.autograd.functional.hessian(lambda v: problem.g(x.detach(), v), w)
    fy = Oracle(problem).df_y(x.detach(), w)
    torch.testing.assert_close(
        found, -torch.exp(x.detach()) * w * torch.linalg.solve(hessian, fy), rtol=1e-9, atol=1e-12
    )


def test_phi_star_of_ridge():
    """Scalar: no point of a fine grid is better. Per feature: no descent from other starts is, and some is as good."""
    scalar = build("ridge")
    values = [
        float(scalar.f(x, scalar.y_star(x))) for x in (torch.tensor([v]).double() for v in np.linspace(-12, 12, 2001))
    ]
    assert scalar.phi_star <= min(values) + 1e-12
    assert min(values) == pytest.approx(scalar.phi_star, rel=1e-5)
    many = build("ridge(penalty='per_feature')")
    rng = np.random.default_rng(7)
    ends = [descend(many, torch.from_numpy(rng.uniform(-8, 8, 10)), [(-12, 12)] * 10).fun for _ in range(12)]
    assert many.phi_star <= min(ends) + 1e-10
    assert min(ends) == pytest.approx(many.phi_star, rel=1e-6)


def test_the_planted_representation_is_optimal():
    easy = build("hyper_representation(gamma=0.0,noise=0.0,n=30,p=6,d=3)")
    assert easy.phi_star == 0.0
    assert min(descend(easy, easy.x0 + 0.1 * k).fun for k in range(3)) < 1e-8


def optimistic(problem, x, ys, tolerance):
    """min f over the lower level's minimisers by brute force on a grid of y."""
    f, g = (torch.func.vmap(function, (None, 0))(x, ys) for function in (problem.f, problem.g))
    return float(f[g <= g.min() + tolerance].min())


GRIDS = {  # x and y of the toys with one variable each; how flat g is at its minimum on this grid
    "darts_toy": ((-1, 3, 81), (-1, 3, 4001), 1e-6),
    "bounded_sine": ((1, 10, 901), (-2, 2, 8001), 3e-6),
    "jump": ((-1, 1, 81), (-1, 1, 3), 1e-9),
    "pl_sine": ((0, 3, 121), (-3.5, 0.5, 16001), 1e-7),
    "sine": ((0, 5, 201), (-4, 9, 26001), 1e-7),
}


@pytest.mark.parametrize("name", GRIDS)
def test_phi_star_and_y_star_of_the_toys_by_brute_force(name):
    problem = build(name)
    xs, ys, tolerance = GRIDS[name]
    grid = torch.linspace(*ys, dtype=torch.float64)[:, None]
    values, closed = [], []
    for x in torch.linspace(*xs, dtype=torch.float64)[:, None]:
        values.append(optimistic(problem, x, grid, tolerance))
        closed.append(float(problem.f(x, problem.y_star(x))))
    assert min(values) == pytest.approx(problem.phi_star, abs=0.02)
    assert np.median(np.abs(np.array(values) - closed)) < 2e-3
    assert min(closed) >= problem.phi_star - 1e-9


def test_the_published_solutions_of_the_toys():
    """Values of the papers and of independent computations."""
    for m, x, value in ((1, 2.3561945, 0.2537490297), (2, 2.4749260, 0.3383320396), (10, 2.6476263, 0.4613618722)):
        problem = build(f"sine(m={m})")
        assert problem.phi_star == pytest.approx(value, abs=1e-9)
        best = torch.tensor([x], dtype=torch.float64)
        assert float(problem.f(best, problem.y_star(best))) == pytest.approx(value, abs=1e-9)
    bounded = build("bounded_sine")
    x = torch.tensor([11 * np.pi / 4])
    assert float(bounded.y_star(x)) == pytest.approx(-2.0)
    assert bounded.phi_star == pytest.approx(-8.6393797974)


def test_phi_of_pl_sine_has_three_local_minima():
    problem = build("pl_sine")
    x = torch.linspace(0, 3, 30001, dtype=torch.float64)
    phi = torch.stack([problem.f(v, problem.y_star(v)) for v in x[:, None]])
    inner = (phi[1:-1] < phi[:-2]) & (phi[1:-1] < phi[2:])
    assert int(inner.sum()) + int(phi[0] < phi[1]) + int(phi[-1] < phi[-2]) == 3


def test_the_flat_block_of_flat_lower_jumps():
    problem = build("flat_lower")
    best = descend(problem, torch.cat([problem.x0[:4], torch.zeros(2).double()]), [(-50, 50)] * 4 + [(0, 0)] * 2)
    assert best.fun == pytest.approx(problem.phi_star, abs=1e-10)
    x = torch.from_numpy(best.x)
    x[-1] = 1e-9
    assert float(problem.f(x, problem.y_star(x))) == pytest.approx(problem.phi_star + 50.0, abs=1e-6)


def test_saddle_is_one():
    problem = build("saddle")
    for x, value in (((0.0, 0.0), 0.0), ((0.0, 1.0), -0.25), ((0.0, -1.0), -0.25)):
        point = torch.tensor(x, dtype=torch.float64)
        assert float(problem.f(point, problem.y_star(point))) == value
    stuck = make_solver("aid_cg(lr=0.1,lr_inner=1.0,T=1,K=2)")
    for nudge, end in ((0.0, 0.0), (1e-6, 1.0)):
        made = build(f"saddle(nudge={nudge})")
        oracle = Oracle(made)
        state = start(stuck, made, oracle)
        for k in range(600):
            oracle.begin(k)
            state = stuck.step(oracle, state)
        assert float(state.x[1]) == pytest.approx(end, abs=1e-6)


def test_first_order_alternation_is_biased_on_the_toy_of_darts():
    """It ends at (2, 2) with Phi = 1; the exact methods at (1, 1)."""
    for text, end in (("first_order(lr=0.05,lr_inner=0.5,T=1)", 2.0), ("aid_cg(lr=0.05,lr_inner=0.5,T=1,K=1)", 1.0)):
        problem, solver = build("darts_toy"), make_solver(text)
        oracle = Oracle(problem)
        state = start(solver, problem, oracle)
        for k in range(1500):
            oracle.begin(k)
            state = solver.step(oracle, state)
        assert float(state.x) == pytest.approx(end, abs=1e-6)


def test_the_bilinear_game_is_smooth_and_only_its_answer_jumps():
    """Gradients of f and g are linear along every line, y* is not: flagged for that, and not as a kink of f or g."""
    problem, rng = build("minimax"), Draw(1)
    a, b = rng.normal(2, 2)
    for function in (problem.f, problem.g):
        at_a, at_b, middle = (
            torch.func.grad(lambda z: function(z[:1], z[1:]))(point)  # noqa: B023
            for point in (a, b, (a + b) / 2)
        )
        torch.testing.assert_close((at_a + at_b) / 2, middle)
    assert "nonsmooth" not in problem.flags
    assert "kinked" in problem.flags
    assert float(problem.y_star(torch.tensor([1e-9]))) == -float(problem.y_star(torch.tensor([-1e-9]))) == 10.0
