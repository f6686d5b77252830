"""Unrolled and derivative-free solvers, and the controls: single steps against the maps that they differentiate.

The nonlinear lower level has a curvature that depends on x and on y, so that a product taken at the wrong point, a
transposed Jacobian or a missing step shows; on quadratics these can hide.
"""

import dataclasses
import itertools
import math

import pytest
import torch
from torch.nn.functional import softplus

from bilevelbench import Draw, Oracle, Problem, box, build_problem, make_solver
from bilevelbench.contract import directions, limits
from bilevelbench.contract.certificates import SIZES, run
from bilevelbench.contract.cost import copies
from bilevelbench.contract.quadratic import quadratic
from bilevelbench.core.solver import start

LR = 0.3  # step of the lower loop on the nonlinear problem
BOUND = 0.17


def bent(bound=None):
    """A lower level with curvature exp(x) and softplus terms in x and y together; f is no quadratic either."""
    rng = Draw(3)
    M, N, c = rng.normal(5, 4), rng.normal(5, 3), rng.normal(4)
    which = torch.tensor([0, 1, 2, 0])
    keep = box(-bound, bound) if bound else None
    y0 = 0.5 * rng.normal(4)
    return Problem(
        f=lambda x, y: 0.5 * ((y - c) ** 2).sum() + torch.sin(x @ y[:3]) + 0.1 * (x**4).sum(),
        g=lambda x, y: 0.3 * softplus(M @ y + N @ x).sum() + 0.5 * (torch.exp(x)[which] * y**2).sum(),
        x0=0.5 * rng.normal(3),
        y0=keep(y0) if keep else y0,
        project_y=keep,
    )


def kept(problem, y):
    return problem.project_y(y) if problem.project_y else y


def slope(function, point):
    """The gradient by torch, so that a function of it can be differenced without the oracle."""
    leaf = point.detach().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def lower(problem, x, y, T, along=None):
    """All points y_0..y_T of the lower loop."""
    points = [y]
    for t in range(T):
        step = along(t, x, y) if along else LR * slope(lambda v, x=x: problem.g(x, v), y)
        y = kept(problem, y - step)
        points.append(y)
    return points


def differences(function, point, h=1e-5):
    """Central differences of a number."""
    return torch.stack(
        [(function(point + h * e) - function(point - h * e)) / (2 * h) for e in torch.eye(len(point)).double()]
    )


def one_step(text, problem, seed=0, state=None):
    """A step's state, and (x - x_new)/lr, the direction."""
    solver, oracle = make_solver(text), Oracle(problem, seed)
    state = start(solver, problem, oracle) if state is None else state
    oracle.begin(0)
    new = solver.step(oracle, state)
    return new, (state.x - new.x) / getattr(solver, "lr", 1.0)


def direction(text, problem, seed=0):
    return one_step(text, problem, seed)[1]


def active(problem, y):
    """Bounds that hold y back are there, and free coordinates too."""
    return problem.project_y is None or 0 < int((y.abs() == BOUND).sum()) < len(y)


# -- unrolled: the derivative of the map, by central differences


@pytest.mark.parametrize("bound", [None, BOUND])
@pytest.mark.parametrize("name", ["itd", "fmd", "k_rmd"])
def test_the_unrolled_direction_is_the_derivative_of_the_unrolled_map(name, bound):
    problem, T = bent(bound), 6
    assert active(problem, lower(problem, problem.x0, problem.y0, T)[-1])
    expected = differences(lambda x: problem.f(x, lower(problem, x, problem.y0, T)[-1]), problem.x0)
    new, found = one_step(f"{name}(lr=0.1,lr_inner={LR},T={T}{',K=6' * (name == 'k_rmd')})", problem)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(new.y, lower(problem, problem.x0, problem.y0, T)[-1], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("bound", [None, BOUND])
@pytest.mark.parametrize("K", [1, 2, 5])
def test_k_rmd_differentiates_the_last_k_steps_alone(K, bound):
    """x is held fixed in the first T - K steps: differences of the rest of the map."""
    problem, T = bent(bound), 6
    early = lower(problem, problem.x0, problem.y0, T - K)[-1]
    expected = differences(lambda x: problem.f(x, lower(problem, x, early, K)[-1]), problem.x0)
    found = direction(f"k_rmd(lr=0.1,lr_inner={LR},T={T},K={K})", problem)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    whole = direction(f"itd(lr=0.1,lr_inner={LR},T={T})", problem)
    assert float((found - whole).norm()) > 1e-4, "truncation must show, or nothing is tested"


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("bound", [None, BOUND])
def test_forward_and_reverse_mode_agree(bound, warm):
    """FMD and RMD are one gradient; so is K-RMD with K >= T. Along whole runs, on the nonlinear problem."""
    problem = bent(bound)
    knobs = f"lr=0.05,lr_inner={LR},T=7,warm={warm}"
    ends = [run(make_solver(text), problem, 15) for text in (f"itd({knobs})", f"fmd({knobs})", f"k_rmd({knobs},K=7)")]
    ends.append(run(make_solver(f"k_rmd({knobs},K=50)"), problem, 15))
    for end in ends[1:]:
        torch.testing.assert_close((end.x, end.y), (ends[0].x, ends[0].y), rtol=1e-10, atol=1e-12)
    assert float((ends[0].x - problem.x0).norm()) > 0.01


@pytest.mark.parametrize("name", ["fmd", "k_rmd", "es"])
def test_cold_begins_at_the_start_every_time_and_warm_at_the_last_y(name):
    problem = quadratic().problem
    for warm in (True, False):
        text = f"{name}(lr=0.1,lr_inner=0.5,T=2,warm={warm})"
        state = run(make_solver(text), problem, 2)
        assert torch.equal(state.start, problem.y0)
        found = [one_step(text, problem, 0, s)[0].y for s in (state, state._replace(y=state.y + 1))]
        change = float((found[0] - found[1]).norm())
        assert change > 1e-3 if warm else change < 1e-12


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("K", [1, 2, 4])
def test_k_rmd_is_a_neumann_series_of_k_terms_where_the_hessian_is_constant(K, size):
    problem = quadratic(*size).problem
    found = direction(f"k_rmd(lr=0.1,lr_inner=0.8,T=5,K={K})", problem)
    series = direction(f"aid_neumann(lr=0.1,lr_inner=0.8,T=5,K={K})", problem)
    torch.testing.assert_close(found, series, rtol=1e-9, atol=1e-11)


def test_the_bias_of_truncation_falls_geometrically():
    """|K-RMD - RMD| <= (1 - lr_inner mu)^K times a constant: with K the bias falls by E's largest eigenvalue."""
    q, T = quadratic(kappa=4.0), 60
    whole = direction(f"itd(lr=0.1,lr_inner=1.0,T={T})", q.problem)
    error = [float((direction(f"k_rmd(lr=0.1,lr_inner=1.0,T={T},K={K})", q.problem) - whole).norm()) for K in (20, 21)]
    assert error[1] / error[0] == pytest.approx(0.75, rel=1e-2)  # 1 - 1/kappa


def test_k_rmd_holds_k_points_whatever_t_is():
    """The contract lets K and T grow one at a time; here both."""
    few, more, long = (copies("k_rmd", T=T, K=K) for T, K in ((20, 2), (20, 12), (60, 2)))
    assert 6 <= more - few <= 40
    assert abs(long - few) < 1.5


def test_fmd_holds_no_path():
    assert abs(copies("fmd", T=30) - copies("fmd", T=3)) < 1.5


# -- one step: DARTS, T1-T2


@pytest.mark.parametrize("bound", [None, BOUND])
def test_darts_differentiates_one_step_and_then_y_moves_at_the_new_x(bound):
    problem = bent(bound)
    x, y = problem.x0, problem.y0
    new, found = one_step(f"darts(lr=0.1,lr_inner={LR},exact=True)", problem)
    expected = differences(lambda x: problem.f(x, lower(problem, x, y, 1)[-1]), x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(
        found, direction(f"k_rmd(lr=0.1,lr_inner={LR},T=1,K=1)", problem), rtol=1e-12, atol=1e-14
    )
    torch.testing.assert_close(new.y, lower(problem, new.x, y, 1)[-1], rtol=1e-12, atol=1e-14)
    assert float((new.y - lower(problem, x, y, 1)[-1]).norm()) > 1e-3


@pytest.mark.parametrize("bound", [None, 0.4])
@pytest.mark.parametrize("eps", [1e-3, 0.01, 0.1])
def test_darts_differences_are_exact_on_a_quadratic(eps, bound):
    """Whatever eps is; at active bounds too, where both points are shifted into Y."""
    q = quadratic()
    problem = q.problem
    if bound:
        problem = dataclasses.replace(problem, project_y=box(-bound, bound), y0=problem.y0.clamp(-bound, bound))
        assert 0 < int((problem.y0.abs() == bound).sum()) < 4
    found = direction(f"darts(lr=0.1,lr_inner=0.9,eps={eps})", problem)
    exact = direction("darts(lr=0.1,lr_inner=0.9,exact=True)", problem)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-11)


def test_darts_differences_err_by_eps_squared():
    problem = bent()
    exact = direction(f"darts(lr=0.1,lr_inner={LR},exact=True)", problem)
    error = [
        float((direction(f"darts(lr=0.1,lr_inner={LR},eps={eps})", problem) - exact).norm()) for eps in (0.2, 0.1, 0.05)
    ]
    assert error[0] > 1e-6
    assert error[0] / error[1] == pytest.approx(4, rel=0.05)
    assert error[1] / error[2] == pytest.approx(4, rel=0.05)


def test_darts_steps_of_a_difference_have_the_length_eps():
    """h = eps/|v|: the points lie eps away from y on either side, whatever the size of df/dy."""
    problem, asked = bent(), []
    g = problem.g
    watched = dataclasses.replace(problem, g=lambda x, y: (asked.append(y.detach()), g(x, y))[1])
    direction(f"darts(lr=0.1,lr_inner={LR},eps=0.02)", watched)
    away = sorted(float((y - problem.y0).norm()) for y in asked)
    assert away == pytest.approx([0, 0, 0.02, 0.02], abs=1e-12)


@pytest.mark.parametrize("T", [1, 3])
def test_t1t2_and_first_order_are_their_formulas(T):
    """df/dx - C df/dy and df/dx, at y_T, C by torch."""
    problem = bent()
    x, y = problem.x0, lower(problem, problem.x0, problem.y0, T)[-1]
    fx, fy = slope(lambda v: problem.f(v, y), x), slope(lambda v: problem.f(x, v), y)
    hessian = torch.autograd.functional.hessian(problem.g, (x, y))
    torch.testing.assert_close(
        direction(f"t1t2(lr=0.1,lr_inner={LR},T={T})", problem), fx - hessian[0][1] @ fy, rtol=1e-10, atol=1e-12
    )
    torch.testing.assert_close(
        direction(f"first_order(lr=0.1,lr_inner={LR},T={T})", problem), fx, rtol=1e-10, atol=1e-12
    )


# -- BDA


@pytest.mark.parametrize("bound", [None, BOUND])
@pytest.mark.parametrize(("s_u", "fade"), [(None, 1.0), (0.1, 0.5)])
def test_bda_is_the_derivative_of_its_own_map(s_u, fade, bound):
    """Steps a_t s_u df/dy + (1 - a_t) s_l dg/dy, a_t = mix (t + 1)^-fade, written out once more."""
    problem, T, mix = bent(bound), 5, 0.6

    def along(t, x, y):
        a = mix / (t + 1) ** fade
        fy, gy = (slope(lambda v, h=h: h(x, v), y) for h in (problem.f, problem.g))
        return a * (s_u or LR) * fy + (1 - a) * LR * gy

    expected = differences(lambda x: problem.f(x, lower(problem, x, problem.y0, T, along)[-1]), problem.x0)
    text = f"bda(lr=0.1,lr_inner={LR},T={T},mix={mix},fade={fade},lr_upper={s_u})"
    new, found = one_step(text, problem)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    end = lower(problem, problem.x0, problem.y0, T, along)[-1]
    assert active(problem, end)
    torch.testing.assert_close(new.y, end, rtol=1e-12, atol=1e-13)


def test_bda_without_aggregation_is_cold_itd():
    problem = bent()
    ends = [
        run(make_solver(text), problem, 10)
        for text in (f"bda(lr=0.05,lr_inner={LR},T=4,mix=0.0)", f"itd(lr=0.05,lr_inner={LR},T=4,warm=False)")
    ]
    torch.testing.assert_close((ends[0].x, ends[0].y), (ends[1].x, ends[1].y), rtol=1e-11, atol=1e-13)


def test_bda_solves_what_unrolling_cannot():
    """singleton: g leaves y2 free. ITD ends at x = 1/2; BDA nears x* = 1, the nearer the longer its lower loop is.

    With a_t of order 1/t the free coordinate follows like T^-(mix s_u), so s_u = 1 and mix near 1 are what it takes.
    """
    problem = build_problem("singleton", Draw(0))

    def end(text):
        return float(run(make_solver(text), problem, 200, tolerance=1e-9).x)

    for warm in (True, False):
        assert end(f"itd(lr=0.4,lr_inner=0.5,T=20,warm={warm})") == pytest.approx(0.5, abs=1e-5)
    away = [1 - end(f"bda(lr=0.4,lr_inner=0.5,lr_upper=1.0,mix=0.9,T={T})") for T in (10, 20, 40)]
    assert 0 < away[2] < away[1] < away[0] < 1e-3
    assert away[1] < 1e-4
    slow = [1 - end(f"bda(lr=0.4,lr_inner=0.5,T={T})") for T in (10, 20, 40)]  # the defaults: mix s_u = 1/4
    assert 0.05 < slow[2] < slow[1] < slow[0] < 0.2


# -- IAPTT


def iaptt_at(problem, x, z, T):
    """What IAPTT should do at (x, z): t^, and the derivatives of f(x, y_t^) in x and in z by differences."""
    values = [float(problem.f(x, y)) for y in lower(problem, x, z, T)[1:]]
    worst = values.index(max(values)) + 1
    in_x = differences(lambda v: problem.f(v, lower(problem, v, z, worst)[-1]), x)
    return worst, in_x, differences(lambda v: problem.f(x, lower(problem, x, v, worst)[-1]), z)


@pytest.mark.parametrize("bound", [None, BOUND])
def test_iaptt_differentiates_its_worst_step_in_x_and_in_the_start(bound):
    """From many starts, so that t^ is the first, the last and one between."""
    problem, T, seen = bent(bound), 5, set()
    solver = make_solver(f"iaptt(lr=0.1,lr_z=0.07,lr_inner={LR},T={T})")
    rng = Draw(1)
    for _ in range(25):
        x, z = rng.normal(3), 1.5 * rng.normal(4)
        z = 0.9 * kept(problem, z)  # inside: no differences across a bound
        worst, in_x, in_z = iaptt_at(problem, x, z, T)
        seen.add(worst)
        given = solver.init(Oracle(problem), x, z)
        new = solver.step(Oracle(problem), given)
        torch.testing.assert_close((x - new.x) / 0.1, in_x, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(new.z, kept(problem, z - 0.07 * in_z), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(new.y, lower(problem, x, z, T)[-1], rtol=1e-12, atol=1e-13)
    assert {1, T} < seen


def test_iaptt_takes_the_first_of_equally_bad_steps_and_never_the_start():
    problem = bent()
    flat = dataclasses.replace(problem, f=lambda x, y: x.sum() + 0 * y.sum())
    oracle = Oracle(flat)
    solver = make_solver("iaptt(T=4)")
    solver.step(oracle, start(solver, flat, oracle))
    assert oracle.calls["d2g"] == 1


def test_iaptt_s_start_ends_where_two_steps_are_equally_bad():
    """T = 2, both steps active: min max over (x, z) of two convex quadratics is the minimiser of a mixture of them.

    The mixture is found by bisection. Descent with a constant step hops around that kink, at a distance O(lr).
    """
    q, a = quadratic(), 0.5
    problem, n = q.problem, 3

    def phi(t, point):
        x, z = point[:n], point[n:]
        return problem.f(x, q.y_star(x) + q.E(a, t) @ (z - q.y_star(x)))

    low, high = 0.0, 1.0
    for _ in range(60):
        weight = 0.5 * (low + high)
        end = limits.minimiser(q, lambda u, w=weight: w * phi(1, u) + (1 - w) * phi(2, u), n + 4)
        low, high = (weight, high) if phi(1, end) > phi(2, end) else (low, weight)
    assert float(phi(1, end)) == pytest.approx(float(phi(2, end)), rel=1e-9)
    assert 0.01 < weight < 0.99
    distance = []
    state = None
    for lr, steps in ((0.05, 1500), (0.005, 3000)):
        state = run(make_solver(f"iaptt(lr={lr},lr_inner={a},T=2)"), problem, steps, state)
        distance.append(float((torch.cat([state.x, state.z]) - end).norm()))
    assert distance[0] < 0.2
    assert distance[1] < 0.25 * distance[0]


def test_iaptt_solves_the_problem_without_a_single_lower_solution():
    """singleton: the free coordinate is moved by way of the start of the loop; with the start held it stays."""
    problem = build_problem("singleton", Draw(0))
    free, held = (
        float(run(make_solver(f"iaptt(lr=0.1,lr_inner=0.5,T=10{knob})"), problem, 1500, tolerance=1e-10).x)
        for knob in ("", ",lr_z=0")
    )
    assert free == pytest.approx(1, abs=1e-6)
    assert held < 0.6


# -- derivative free


def normals(n, Q, seed=0):
    """The directions that a first step draws."""
    oracle = Oracle(quadratic().problem, seed)
    oracle.begin(0)
    return [oracle.normal(n) for _ in range(Q)]


@pytest.mark.parametrize("mu", [1e-4, 0.1, 30.0])
@pytest.mark.parametrize("size", SIZES)
def test_pzobo_is_the_jacobian_times_its_directions_for_any_mu(size, mu):
    """y_T is affine in x on a quadratic: df/dx + mean_j (u_j'w) u_j, w = J_T' df/dy; its mean is df/dx + w."""
    q, Q, T, lr = quadratic(*size), 3, 4, 0.8
    n, x, y = size[0], q.problem.x0, q.lower(lr, T)
    w = q.B.T @ q.truncated(lr, T) @ q.fy(x, y)
    expected = q.fx(x, y) + sum((u @ w) * u for u in normals(n, Q)) / Q
    new, found = one_step(f"pzobo(lr=0.1,lr_inner={lr},T={T},Q={Q},mu={mu})", q.problem)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(new.y, y, rtol=1e-12, atol=1e-13)


def squares(text, problem, mean, runs=2500):
    return torch.stack([((direction(text, problem, seed) - mean) ** 2).sum() for seed in range(runs)])


@pytest.mark.parametrize("Q", [1, 3])
def test_pzobo_s_mean_square_error(Q):
    """(n_x + 1) |w|^2 / Q around the gradient of the unrolled map, for mu = 10 as for any other."""
    q = quadratic()
    y = q.lower(0.8, 1)
    w = q.B.T @ q.truncated(0.8, 1) @ q.fy(q.problem.x0, y)
    seen = squares(f"pzobo(lr=0.1,lr_inner=0.8,T=1,Q={Q},mu=10.0)", q.problem, directions.unrolled(q, 0.8, 1))
    error = float(seen.std()) / math.sqrt(len(seen))
    assert abs(float(seen.mean()) - 4 * float(w @ w) / Q) < 5 * error
    assert error < 0.1 * float(seen.mean())


def phi_hessian(q, lr, T):
    """The Hessian of x -> f(x, y_T(x)) on a quadratic."""
    J = q.truncated(lr, T) @ q.B
    return q.R + q.S @ J + J.T @ q.S.T + J.T @ q.P @ J


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("mu", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize("size", SIZES)
def test_es_is_the_gradient_times_its_directions(size, mu, mirrored):
    """mean_j (u_j'w) u_j, w the gradient of f(x, y_T(x)), and where it is not mirrored mu/2 u'Hu u, odd in u."""
    q, Q, T, lr = quadratic(*size), 3, 4, 0.8
    w, H = directions.unrolled(q, lr, T), phi_hessian(q, lr, T)
    curved = 0 if mirrored else mu / 2
    expected = sum((u @ w + curved * (u @ H @ u)) * u for u in normals(size[0], Q)) / Q
    new, found = one_step(f"es(lr=0.1,lr_inner={lr},T={T},Q={Q},mu={mu},mirrored={mirrored})", q.problem)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(new.y, q.lower(lr, T), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mirrored", [True, False])
def test_es_s_mean_square_error(mirrored):
    """(n + 1) |w|^2 / Q, and mu^2/4 (n + 4) (tr(H)^2 + 2 tr(H^2)) / Q besides where it is not mirrored."""
    q, Q, mu, n = quadratic(), 2, 0.5, 3
    w, H = directions.unrolled(q, 0.8, 1), phi_hessian(q, 0.8, 1)
    expected = (n + 1) * float(w @ w)
    if not mirrored:
        expected += mu**2 / 4 * (n + 4) * float(torch.trace(H) ** 2 + 2 * torch.trace(H @ H))
    seen = squares(f"es(lr=0.1,lr_inner=0.8,T=1,Q={Q},mu={mu},mirrored={mirrored})", q.problem, w, 2000)
    error = float(seen.std()) / math.sqrt(len(seen))
    assert abs(float(seen.mean()) - expected / Q) < 5 * error
    assert error < 0.1 * float(seen.mean())


@pytest.mark.parametrize(("text", "order"), [("es(lr=0.1,{},mirrored=True)", 2), ("pzobo(lr=0.1,{})", 1)])
def test_differences_along_x_err_by_a_power_of_mu(text, order):
    """On the nonlinear problem, direction by direction: mu^2 for a central difference, mu for a one-sided one.

    The one-sided error is even in u and its product with u odd: the mean over u errs by mu^2 there too.
    """
    problem, T, Q = bent(), 5, 4
    exact = direction(f"itd(lr=0.1,lr_inner={LR},T={T})", problem)
    y = lower(problem, problem.x0, problem.y0, T)[-1]
    fx = slope(lambda v: problem.f(v, y), problem.x0) if "pzobo" in text else torch.zeros(3).double()
    limit = fx + sum((u @ (exact - fx)) * u for u in normals(3, Q)) / Q
    error = [
        float((direction(text.format(f"lr_inner={LR},T={T},Q={Q},mu={mu}"), problem) - limit).norm())
        for mu in (4e-3, 2e-3)
    ]
    assert error[0] > 1e-8
    assert error[0] / error[1] == pytest.approx(2**order, rel=0.1)


def test_pzobo_descends_to_the_unrolled_limit_s_neighbourhood():
    """Many directions and small steps: near W(A^-1 (I - E^T)), within the noise, and far from where it starts."""
    q = quadratic()
    limit = limits.W(q, q.truncated(1.0, 2))
    state = run(make_solver("pzobo(lr=0.05,lr_inner=1.0,T=2,Q=4,decay=0.6)"), q.problem, 1200)
    assert float((state.x - limit).norm()) < 0.02 * float((q.problem.x0 - limit).norm())


# -- controls


def test_lower_only_leaves_x_and_never_asks_f():
    q = quadratic()
    solver, oracle = make_solver("lower_only(lr_inner=0.8,T=3)"), Oracle(q.problem)
    state = start(solver, q.problem, oracle)
    for k in range(4):
        oracle.begin(k)
        state = solver.step(oracle, state)
    assert torch.equal(state.x, q.problem.x0)
    torch.testing.assert_close(state.y, q.lower(0.8, 12), rtol=1e-11, atol=1e-12)
    assert oracle.calls == {"dg_y": 12}


@pytest.mark.parametrize("bound", [None, 0.8])
def test_random_search_keeps_the_best_of_its_guesses(bound):
    """The guesses made once more: x0 + scale u, projected, T steps from y0, the least f so far."""
    q, T, scale, steps = quadratic(), 3, 0.7, 40
    problem = q.problem if bound is None else dataclasses.replace(q.problem, project_x=box(-bound, bound))
    problem = dataclasses.replace(problem, x0=problem.x0.clamp(-(bound or 9), bound or 9))

    def value(x):
        y = q.y_star(x) + q.E(0.8, T) @ (problem.y0 - q.y_star(x))
        return float(problem.f(x, y)), y

    solver, oracle = make_solver(f"random_search(lr_inner=0.8,T={T},scale={scale})"), Oracle(problem, 2)
    state = start(solver, problem, oracle)
    best, draws, moves = (value(problem.x0)[0], problem.x0), Oracle(problem, 2), 0
    for k in range(steps):
        oracle.begin(k)
        draws.begin(k)
        state = solver.step(oracle, state)
        guess = draws.project_x(problem.x0 + scale * draws.normal(3))
        if value(guess)[0] < best[0]:
            best, moves = (value(guess)[0], guess), moves + 1
        torch.testing.assert_close(state.x, best[1], rtol=0, atol=0)
        torch.testing.assert_close(state.y, value(best[1])[1], rtol=1e-11, atol=1e-12)
        assert float(state.value) == pytest.approx(best[0], rel=1e-11)
    assert 2 <= moves < steps


def test_random_search_does_not_keep_what_is_no_number_and_does_not_hide_it_at_the_start():
    q = quadratic()
    f, x0 = q.problem.f, q.problem.x0
    holes = dataclasses.replace(q.problem, f=lambda x, y: torch.where(x[0] > x0[0], torch.nan, f(x, y)))
    state = run(make_solver("random_search"), holes, 60)
    assert bool(torch.isfinite(state.x).all())
    assert float(state.x[0]) < float(x0[0])
    nowhere = dataclasses.replace(q.problem, f=lambda x, y: torch.nan * f(x, y))
    assert not bool(torch.isfinite(run(make_solver("random_search"), nowhere, 3).x).any())


def test_random_search_never_rises():
    problem, state = bent(), None
    solver, oracle = make_solver(f"random_search(lr_inner={LR},T=5)"), Oracle(problem)
    values = []
    state = start(solver, problem, oracle)
    for k in range(60):
        oracle.begin(k)
        values.append(float(state.value))
        state = solver.step(oracle, state)
        assert float(problem.f(state.x, state.y)) == pytest.approx(float(state.value), abs=0)
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < values[0]
