"""The first-order family: biases of penalties, BOME's direction, multipliers, and constraints, against closed forms.

Where each of them ends is in test_certificates.py; here is how that depends on the penalty, and what single steps are.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench import Oracle, Problem, Unsupported, make_solver
from bilevelbench.contract import limits
from bilevelbench.contract.certificates import run
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import require, start
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.trace import trace


def step(text, problem, **state):
    """One step of a solver from its start, with parts of the state set: (before, after, the solver)."""
    solver, oracle = make_solver(text), Oracle(problem)
    before = start(solver, problem, oracle)._replace(x=problem.x0, **state)
    oracle.begin(0)
    return before, solver.step(oracle, before), solver


def direction(text, problem, **state):
    """(x - x_new) / lr of one step."""
    before, after, solver = step(text, problem, **state)
    return (before.x - after.x) / solver.lr


# -- penalties: the bias at a point, and of the limit


def gap_matrix(q, name):
    """N of the penalty c/2 (y - y*)'N(y - y*)."""
    return {
        "f2sa": q.A, "vpbgd": q.A, "g_pbgd": q.A @ q.A, "penalty": q.A @ q.A, "meha": limits.moreau(q, 2.0)
    }[name]  # fmt: skip


FIXED = "c_gamma=1.0,c_eps=1.0,eps=1e9,multipliers=False"
PENALTIES = {  # knobs at a penalty c, and by what the method divides its direction on x
    "f2sa": ("f2sa(lr=0.3,lr_inner=1.0,T=2,lam={c})", lambda c: 1.0),
    "vpbgd": ("vpbgd(lr=0.3,lr_inner=1.0,gamma={c})", lambda c: c),
    "g_pbgd": ("g_pbgd(lr=0.3,gamma={c})", lambda c: c),
    "penalty": ("penalty(lr=0.3/{c},lr_inner=0.3/{c},T=1,gamma={c}," + FIXED + ")", lambda c: 1.0),
    "meha": ("meha(lr={c}/20,lr_y=0.3,lr_inner=0.3,gamma=2.0,c={c},growth=0.0)", lambda c: c),
}


def at(name, c):
    """The spec at penalty c, numbers worked out."""
    text = PENALTIES[name][0].replace("0.3/{c}", repr(0.3 / c)).replace("{c}/20", repr(c / 20))
    return text.format(c=float(c))


@pytest.mark.parametrize("c", [2.0, 50.0])
@pytest.mark.parametrize("name", PENALTIES)
def test_at_the_penalised_answer_the_direction_is_the_hypergradient_plus_the_bias(name, c):
    """y = y_c(x) and z the answer (or its proximal point): grad Phi - (S + J'P)(P + cN)^-1 df/dy, in one step."""
    q = quadratic()
    x, N = q.problem.x0, gap_matrix(q, name)
    best = q.y_star(x)
    y = best - torch.linalg.solve(q.P + c * N, q.fy(x, best))
    state = {"y": y}
    if name in ("f2sa", "vpbgd"):
        state["z"] = best
    if name == "meha":
        state["z"] = best + torch.linalg.solve(torch.eye(4).double() + 2.0 * q.A, y - best)
    found = direction(at(name, c), q.problem, **state) * PENALTIES[name][1](c)
    torch.testing.assert_close(found, q.hypergradient(x) + limits.bias(q, x, N, c), rtol=1e-9, atol=1e-10)
    assert float(limits.bias(q, x, N, c).norm()) > 1e-3


@pytest.mark.parametrize("name", PENALTIES)
def test_the_bias_of_the_limit_halves_where_the_penalty_doubles(name):
    """Measured where the solver ends. At a finite c the factor is 2 up to O(1/c), known from the affine equation."""
    q, ends = quadratic(3, 4, 2.0), []
    for c in (10.0, 20.0):
        end = run(make_solver(at(name, c)), q.problem, 4000, tolerance=1e-10)
        ends.append(end.x)
        torch.testing.assert_close(end.x, limits.penalised(q, gap_matrix(q, name), c), rtol=0, atol=1e-7)
    errors = [float((x - q.x_star).norm()) for x in ends]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.25)
    assert float((2 * ends[1] - ends[0] - q.x_star).norm()) < 0.25 * errors[1]  # extrapolated: the first order is gone


def test_the_bias_of_a_central_difference_falls_fourfold():
    """F2SA-2, at twice lambda; and at the exact lower answers its direction is the central difference."""
    q, errors = quadratic(3, 4, 2.0), []
    for lam in (20.0, 40.0):
        end = run(make_solver(f"f2sa_2(lr=0.2,lr_inner=0.9,T=5,lam={lam})"), q.problem, 4000, tolerance=1e-12)
        errors.append(float((end.x - q.x_star).norm()))
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.2)
    forward = float((limits.penalised(q, q.A, 40.0) - q.x_star).norm())
    assert errors[1] < 0.2 * forward
    x, nu = q.problem.x0, 0.05
    y, z = (torch.linalg.solve(q.A + s * q.P, q.B @ x + q.b + s * (q.p - q.S.T @ x)) for s in (nu, -nu))
    l = [q.problem.g(x, v) + s * q.problem.f(x, v) for v, s in ((y, nu), (z, -nu))]  # noqa: E741
    phi = float(q.problem.f(x, q.y_star(x)))
    assert float(l[0] - l[1]) / (2 * nu) == pytest.approx(phi, rel=0.1)  # what is differenced tends to Phi
    found = direction("f2sa_2(lr=0.2,lr_inner=0.9,T=5,lam=20.0)", q.problem, y=y, z=z)
    expected = (q.Q @ x - q.B.T @ y + nu * q.fx(x, y) - q.Q @ x + q.B.T @ z + nu * q.fx(x, z)) / (2 * nu)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("lam", [0.0, 3.0])
def test_penalty_at_its_stationary_y_is_the_implicit_formula_there(lam):
    """Lemma 3, at y itself and not at y*(x); with lambda g the Hessian is shifted by lambda/gamma."""
    q, gamma = quadratic(), 7.0
    x = q.problem.x0
    best = q.y_star(x)
    y = best - torch.linalg.solve(q.P + gamma * q.A @ q.A + lam * q.A, q.fy(x, best))
    found = direction(f"penalty(lr=0.1,lr_inner=0.01,T=3,gamma={gamma},lam={lam},{FIXED})", q.problem, y=y)
    shifted = q.A + lam / gamma * torch.eye(4).double()
    expected = q.fx(x, y) + q.B.T @ torch.linalg.solve(shifted, q.fy(x, y))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert float((expected - q.hypergradient(x)).norm()) > 0.1


def test_penalty_without_its_additions_is_algorithm_1():
    """The paper's nested loops, written as loops: while the squared norms are above eps^2, T steps on y, one on x."""
    q = quadratic()
    made = make_solver("penalty(lr=0.05,lr_inner=0.1,T=2,gamma=1.0,eps=1.0,c_gamma=1.5,lam=0.0,multipliers=False)")
    x, y, gamma, eps, path = q.problem.x0, q.problem.y0, 1.0, 1.0, []
    for _ in range(3):
        while True:
            for _ in range(2):
                h = q.A @ y - q.B @ x - q.b
                vy = q.fy(x, y) + gamma * q.A @ h
                y = y - 0.1 / gamma * vy
            h = q.A @ y - q.B @ x - q.b
            vx = q.fx(x, y) - gamma * q.B.T @ h
            x = x - 0.05 / gamma * vx
            path.append((x, y))
            if vx @ vx + vy @ vy < eps**2:
                break
        gamma, eps = 1.5 * gamma, 0.9 * eps
    oracle = Oracle(q.problem)
    state = start(made, q.problem, oracle)
    assert len(path) > 10
    for k, point in enumerate(path):
        oracle.begin(k)
        state = made.step(oracle, state)
        torch.testing.assert_close((state.x, state.y), point, rtol=1e-10, atol=1e-11)
    assert float(state.gamma) == pytest.approx(1.5**3)
    assert not bool(state.nu.any())


# -- multipliers


def nonconvex_f():
    """f concave in a direction of y, Phi strongly convex all the same."""
    q = quadratic()
    values, vectors = torch.linalg.eigh(q.P)
    P = q.P - (values[0] + 0.5) * torch.outer(vectors[:, 0], vectors[:, 0])
    q = dataclasses.replace(q, P=P)
    J = q.J
    assert float(torch.linalg.eigvalsh(q.R + q.S @ J + J.T @ q.S.T + J.T @ P @ J).min()) > 0.1
    return q


def joint(q, gamma):
    """The Hessian of f + gamma/2 |dg/dy|^2."""
    A, B = q.A, q.B
    top = torch.cat([q.R + gamma * B.T @ B, q.S - gamma * B.T @ A], 1)
    return torch.cat([top, torch.cat([q.S.T - gamma * A @ B, q.P + gamma * A @ A], 1)])


def test_multipliers_need_a_penalty_that_makes_the_joint_problem_convex():
    """With f not jointly convex small gamma diverges; above the threshold the limit is x*, nu -A^-1 df/dy, at once."""
    q = nonconvex_f()
    small, large = 0.5, 40.0
    assert float(torch.linalg.eigvalsh(joint(q, small)).min()) < 0 < float(torch.linalg.eigvalsh(joint(q, large)).min())
    knobs = "T=5,c_gamma=1.0,c_eps=1.0,eps=1e-2"
    far = run(make_solver(f"penalty(lr=0.1,lr_inner=0.1,gamma={small},{knobs})"), q.problem, 1500)
    assert not float(far.y.norm()) < 1e3
    near = run(make_solver(f"penalty(lr=0.1,lr_inner=0.02,gamma={large},{knobs})"), q.problem, 8000, tolerance=1e-11)
    assert float((near.x - q.x_star).norm()) < 1e-7
    adjoint = -torch.linalg.solve(q.A, q.fy(q.x_star, q.y_star(q.x_star)))
    assert float((near.nu - adjoint).norm()) < 1e-6


# -- BOME


@given(
    seed=st.integers(0, 10**6),
    ny=st.integers(1, 5),
    kappa=st.floats(1.0, 50.0),
    T=st.integers(1, 4),
    eta=st.floats(0.05, 0.95),
    phi=st.sampled_from(["norm", "gap"]),
    spread=st.floats(0.01, 10.0),
)
def test_bome_s_direction_is_the_nearest_to_grad_f_that_descends_enough(seed, ny, kappa, T, eta, phi, spread):
    """d - grad f = lambda grad q, lambda >= 0, <d, grad q> >= phi, equal iff lambda > 0: what makes a projection."""
    q, lr = quadratic(2, ny, kappa, seed % 97), 1e-3
    rng = torch.Generator().manual_seed(seed)
    x, y = (spread * torch.randn(n, generator=rng, dtype=torch.float64) for n in (2, ny))
    problem = dataclasses.replace(q.problem, x0=x, y0=y)
    _, new, _ = step(f"bome(lr={lr},lr_inner=0.5,T={T},eta={eta},phi={phi!r})", problem)
    d = torch.cat([x - new.x, y - new.y]) / lr
    z = q.y_star(x) + q.E(0.5, T) @ (y - q.y_star(x))
    grad_q = torch.cat([-q.B.T @ (y - z), q.A @ (y - q.y_star(x))])
    grad_f = torch.cat([q.fx(x, y), q.fy(x, y)])
    gap = float(0.5 * (y - z) @ q.A @ (y + z - 2 * q.y_star(x)))
    square, dot = float(grad_q @ grad_q), float(grad_f @ grad_q)
    barrier = eta * (square if phi == "norm" else gap)
    scale = square + abs(dot) + barrier
    lam = max((barrier - dot) / square, 0.0)
    size = float(grad_f.norm()) + lam * square**0.5
    torch.testing.assert_close(d, grad_f + lam * grad_q, rtol=0, atol=1e-8 * (1 + size) + 1e-11 * spread / lr)
    assert float(d @ grad_q) >= barrier - 1e-7 * scale
    if lam > 0:
        assert float(d @ grad_q) == pytest.approx(barrier, abs=1e-6 * scale + 1e-11 * spread / lr * square**0.5)


def test_bome_as_released_without_momentum_and_eps_is_bome_with_the_gap():
    problem, knobs = quadratic().problem, "lr=0.05,lr_y=0.02,lr_inner=0.3,T=3,eta=0.1"
    one = run(make_solver(f"bome_released({knobs},update='plain',eps=0.0)"), problem, 5)
    other = run(make_solver(f"bome({knobs},phi='gap')"), problem, 5)
    torch.testing.assert_close((one.x, one.y), (other.x, other.y), rtol=1e-12, atol=1e-13)


def test_one_small_step_of_bome_lowers_the_gap():
    q = quadratic()
    for seed in range(5):
        rng = torch.Generator().manual_seed(seed)
        problem = dataclasses.replace(q.problem, y0=3 * torch.randn(4, generator=rng, dtype=torch.float64))
        before, after, _ = step("bome(lr=1e-4,lr_inner=1.0,T=50)", problem)
        gaps = [float(q.problem.g(s.x, s.y) - q.problem.g(s.x, q.y_star(s.x))) for s in (before, after)]
        assert gaps[1] < gaps[0]


def test_bome_as_released_is_the_authors_loop():
    """hpo/data_cleaning.py in a few lines: torch.optim.SGD with momentum on both levels, q of one backward."""
    q = quadratic()
    made = make_solver("bome_released(lr=0.05,lr_y=0.02,lr_inner=0.3,T=3)")
    assert (made.phi, made.eta, made.eps, made.momentum) == ("gap", 0.1, 1e-8, 0.9)
    x, y = q.problem.x0.clone().requires_grad_(), q.problem.y0.clone().requires_grad_()
    optimizers = torch.optim.SGD([x], lr=0.05, momentum=0.9), torch.optim.SGD([y], lr=0.02, momentum=0.9)
    oracle = Oracle(q.problem)
    state = start(made, q.problem, oracle)
    for k in range(20):
        z = y.detach().clone().requires_grad_()
        inner = torch.optim.SGD([z], lr=0.3)
        for _ in range(3):
            inner.zero_grad()
            q.problem.g(x.detach(), z).backward()
            inner.step()
        f = torch.autograd.grad(q.problem.f(x, y), (x, y))
        loss = q.problem.g(x, y) - q.problem.g(x, z.detach())
        grads = torch.autograd.grad(loss, (x, y))
        dot, norm = sum((a * b).sum() for a, b in zip(f, grads, strict=True)), sum((g * g).sum() for g in grads)
        lam = torch.relu((0.1 * loss.detach() - dot) / (norm + 1e-8))
        for variable, a, b in zip((x, y), f, grads, strict=True):
            variable.grad = a + lam * b
        for optimizer in optimizers:
            optimizer.step()
        oracle.begin(k)
        state = made.step(oracle, state)
        torch.testing.assert_close((state.x, state.y), (x.detach(), y.detach()), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("c", [1e1, 1e2, 1e3, 1e4])
def test_bome_s_measure_along_the_value_gap_path_is_the_gap_with_its_closed_form(c):
    """K = q = w'Aw / (2 c^2), w = (A + P/c)^-1 df/dy: it falls like 1/c^2, and jumps at the exact solution."""
    q = quadratic()
    x = limits.penalised(q, q.A, c)
    best = q.y_star(x)
    w = torch.linalg.solve(q.A + q.P / c, q.fy(x, best))
    judge = Judge(dataclasses.replace(q.problem, x0=x))
    found = judge(x, best - w / c)["stationarity"]
    assert found == pytest.approx(float(w @ q.A @ w) / (2 * c**2), rel=1e-6)
    exact = judge(q.x_star, q.y_star(q.x_star))["stationarity"]  # there grad q = 0: the guard answers with grad Phi
    assert exact < 1e-20
    assert float(q.fx(q.x_star, q.y_star(q.x_star)).norm()) > 0.1  # without it, |grad f|^2


# -- what has no limit, or none that is a solution


def test_bsg1_diverges_where_the_lower_level_is_solved_and_the_run_says_so():
    """<df/dy, dg/dy> / |dg/dy|^2 has no bound: with T = 10 warm steps x is thrown about until a number overflows."""
    problem, budget, watch = quadratic().problem, Budget(steps=3000), Stopwatch(lambda: None)
    rows = list(trace(problem, make_solver("bsg1(lr=0.1,lr_inner=0.9,T=10)"), 0, budget, Judge(problem), watch, False))
    assert rows[-1].status == "diverged"
    assert "not finite" in rows[-1].reason
    assert rows[0].status == "running"


def test_bsg1_s_direction_is_its_formula_and_loses_its_term_at_a_solved_lower_level():
    q = quadratic()
    x, y = q.problem.x0, q.problem.y0 - 0.9 * (q.A @ q.problem.y0 - q.B @ q.problem.x0 - q.b)
    gy, gx = q.A @ y - q.B @ x - q.b, q.Q @ x - q.B.T @ y
    for eps in (0.0, 0.3):
        found = direction(f"bsg1(lr=0.1,lr_inner=0.9,eps={eps})", q.problem)
        expected = q.fx(x, y) - (q.fy(x, y) @ gy) / (gy @ gy + eps) * gx
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    flat = dataclasses.replace(q.problem, g=lambda x, y: 0 * y.sum() + x.sum())
    torch.testing.assert_close(direction("bsg1(lr=0.1)", flat), q.fx(x, q.problem.y0), rtol=1e-9, atol=1e-10)


def test_dropping_the_value_function_leaves_the_solution_however_large_the_penalty():
    """PBGD-Free tends to W(0), the limit of alternating descent, and V-PBGD with the same gamma to x*."""
    q = quadratic()
    direct = limits.W(q, torch.zeros_like(q.A))
    distances = [float((limits.direct(q, gamma) - direct).norm()) for gamma in (1e3, 2e3)]
    assert distances[0] / distances[1] == pytest.approx(2.0, rel=0.01)
    penalised = float((limits.penalised(q, q.A, 1e3) - q.x_star).norm())
    assert float((limits.direct(q, 1e3) - q.x_star).norm()) > 20 * penalised


# -- FdeHBO and BVFSM


@pytest.mark.parametrize("delta", [1e-3, 1.0])
def test_differences_are_the_products_on_a_quadratic_so_that_fdehbo_is_soba(delta):
    """v has the other sign there. The ball of radius r is not met."""
    problem = quadratic().problem
    ours, theirs = make_solver(f"fdehbo(lr=0.05,lr_inner=0.4,delta={delta})"), make_solver("soba(lr=0.05,lr_inner=0.4)")
    for n in (1, 30):
        a, b = run(ours, problem, n), run(theirs, problem, n)
        torch.testing.assert_close((a.y, -a.v), (b.y, b.v), rtol=1e-8, atol=1e-9)
        if n == 1:
            torch.testing.assert_close(a.x, b.x, rtol=1e-9, atol=1e-10)


def test_fdehbo_keeps_v_in_its_ball_and_errs_by_delta_squared():
    q = quadratic()
    state = run(make_solver("fdehbo(lr=0.05,lr_inner=0.4,radius=0.2)"), q.problem, 40)
    assert float(state.v.norm()) == pytest.approx(0.2, rel=1e-12)
    curved = dataclasses.replace(q.problem, g=lambda x, y: q.problem.g(x, y) + (y + x.sum()).pow(4).sum())
    v = torch.linspace(-1, 2, 4).double()
    exact = -Oracle(curved).d2g_xy(q.problem.x0, q.problem.y0, v) + q.fx(q.problem.x0, q.problem.y0)
    text = "fdehbo(lr=0.1,lr_inner=0.1,lr_linear=0.0,delta={})"
    errors = [float((direction(text.format(d), curved, v=v) - exact).norm()) for d in (0.1, 0.05)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=1e-3)


def tilted(q, n=4):
    """g's rows differ by a linear term alone, which adds up to zero: a minibatch's noise is the same everywhere."""
    tilt = torch.linspace(-1, 1, n * len(q.problem.y0)).double().reshape(n, -1)

    def g(x, y, rows=None):
        return q.problem.g(x, y) + (0.0 if rows is None else tilt[rows].mean(0) @ y)

    def f(x, y, rows=None):
        return q.problem.f(x, y)

    return dataclasses.replace(q.problem, f=f, g=g, n_f=n, n_g=n)


def test_fdehbo_s_minibatches_are_corrected_by_the_step_before():
    """With eta = 0 the difference of two gradients by the same rows has no noise, so that the first one's is kept."""
    q = quadratic()
    problem, solver = tilted(q), make_solver("fdehbo(lr=0.05,lr_inner=0.3,eta=0.0,batch=1)")
    oracle = Oracle(problem, 3)
    state, noise = start(solver, problem, oracle), []
    for k in range(12):
        oracle.begin(k)
        exact = Oracle(problem).dg_y(state.x, state.y)
        state = solver.step(oracle, state)
        noise.append(state.h[1] - exact)
    assert float(noise[0].norm()) > 0.1
    for later in noise[1:]:
        torch.testing.assert_close(later, noise[0], rtol=1e-9, atol=1e-11)
    assert {kind: oracle.calls[kind] for kind in ("df", "dg_y", "dg_x")} == {"df": 24, "dg_y": 72, "dg_x": 48}


@pytest.mark.parametrize("name", ["fdehbo(lr=0.05,lr_inner=0.3,decay=0.33{})", "pzobo(lr=0.05,lr_inner=0.3,T=3,Q=2{})"])
def test_rows_that_are_all_alike_make_no_difference(name):
    q = quadratic()
    problem = finite_sum(q, spread=0.0)
    whole, part = (run(make_solver(name.format(of)), problem, 8) for of in ("", ",batch=1"))
    torch.testing.assert_close((part.x, part.y), (whole.x, whole.y), rtol=1e-9, atol=1e-11)


def test_pzobo_s_loops_share_their_minibatches():
    """A tilt moves every loop alike, so that the differences, and what they are multiplied with, have no noise."""
    q = quadratic()
    flat = dataclasses.replace(q.problem, f=lambda x, y: 0.5 * x @ x + y.sum())
    problem = dataclasses.replace(tilted(q), f=lambda x, y, rows=None: flat.f(x, y))
    text = "pzobo(lr=0.05,lr_inner=0.3,T=3,Q=2{})"
    whole, part = run(make_solver(text.format("")), flat, 1), run(make_solver(text.format(",batch=1")), problem, 1)
    torch.testing.assert_close(part.x, whole.x, rtol=1e-9, atol=1e-11)
    assert float((part.y - whole.y).norm()) > 0.1


@pytest.mark.parametrize("barrier", ["quadratic", "log"])
def test_bvfsm_takes_the_steps_of_the_authors_code(barrier):
    """Both weights of grad g by torch.autograd, from the values they come from; the log's argument held as there."""
    q, mu, theta, sigma, tau, shift = quadratic(), 0.3, 0.2, 5.0, 0.7, 20.0
    text = f"bvfsm(lr=0.05,lr_y=0.02,lr_inner=0.3,T=2,mu={mu},theta={theta},sigma={sigma},tau={tau},shift={shift},"
    solver = make_solver(text + f"fade=0.5,barrier={barrier!r})")
    oracle = Oracle(q.problem)
    states = [start(solver, q.problem, oracle)]
    for k in range(3):
        oracle.begin(k)
        states.append(solver.step(oracle, states[-1]))
    for k, (s, new) in enumerate(itertools.pairwise(states)):
        fade, z, y = (k + 1) ** -0.5, s.z, s.y
        for _ in range(2):
            z = z - 0.3 * (q.A @ z - q.B @ s.x - q.b + mu * fade * z)

        def upper(x, y, z=z, fade=fade):
            least, g = q.problem.g(x, z) + mu * fade / 2 * z @ z, q.problem.g(x, y)
            if barrier == "quadratic":
                value, weight = sigma / 2 * torch.relu(g - least) ** 2, sigma * torch.relu(g - least)
            else:  # the authors' way: the value of log's argument is that at z whatever y is
                value = -tau * fade * torch.log(g.detach() + shift + least - g)
                weight = tau * fade / (least + shift)
            return q.problem.f(x, y) + value + theta * fade / 2 * y @ y, max(float(weight.detach()), 1.0)

        for _ in range(2):
            leaf = y.clone().requires_grad_()
            value, steep = upper(s.x, leaf)
            y = y - 0.02 / steep * torch.autograd.grad(value, leaf)[0]
        leaf = s.x.clone().requires_grad_()
        value, steep = upper(leaf, y)
        x = s.x - 0.05 / steep * torch.autograd.grad(value, leaf)[0]
        torch.testing.assert_close((new.x, new.y, new.z), (x, y, z), rtol=1e-9, atol=1e-10)


# -- constraints


def coupled(k=3, sides=2):
    """LV-HBA's example LLC: g linear in half of y, whose answers are tied to x by an equation, here two inequalities.

    g = |y1|^2/2 - x'y1 + 1'y2 where 1'x + 1'y1 + 1'y2 = 0, f = |x - y2|^2/2 + |y1 - 1|^2/2. x* = -0.3,
    y* = (0.7, -0.4), multiplier 1, Phi* = 0.05 k: the lower level has y1 = x + 1 and the mean of y2, and what is left
    is (3t + 1)^2/2 + t^2/2 in each x_i = t.
    """

    def h(x, y):
        short = -(x.sum() + y.sum())
        return torch.stack([short, -short][:sides])

    def project(x, y):
        short = -(x.sum() + y.sum()) / (len(x) + len(y))
        short = short if sides == 2 else torch.relu(short)
        return x + short, y + short

    def y_star(x):
        return torch.cat([x + 1, x - 3 * x.mean() - 1])

    return Problem(
        f=lambda x, y: 0.5 * (x - y[k:]).square().sum() + 0.5 * (y[:k] - 1).square().sum(),
        g=lambda x, y: 0.5 * y[:k] @ y[:k] - x @ y[:k] + y[k:].sum(),
        x0=torch.linspace(0.5, 1.5, k, dtype=torch.float64),
        y0=torch.linspace(-1, 2, 2 * k, dtype=torch.float64),
        y_star=y_star, phi_star=0.05 * k, phi_star_source="closed form", h_g=h, project_xy=project,
        flags=frozenset({"convex"}),
    )  # fmt: skip


def optimum(k=3):
    return torch.cat([torch.full((n,), v).double() for n, v in ((k, -0.3), (k, 0.7), (k, -0.4))])


def limit(name, c, gamma, gamma2, k=3):
    """(x, y) where the method ends at a fixed c: its optimality conditions, linear as both inequalities are active."""

    def conditions(v):
        x, y, z, (lam, mu) = v[:k], v[k : 3 * k], v[3 * k : 5 * k], v[5 * k :]
        fx, fy = x - y[k:], np.concatenate([y[:k] - 1, y[k:] - x])
        dg = lambda y: np.concatenate([y[:k] - x, np.ones(k)])  # noqa: E731
        h = lambda y: -(x.sum() + y.sum())  # noqa: E731
        vx, vy = fx / c - y[:k] + z[:k], fy / c + dg(y) - (y - z) / gamma
        if name == "lv_hba":  # mu is the multiplier of the projection; d h/dx = d h/dy = -1
            return np.concatenate([dg(z) - lam + (z - y) / gamma, [h(z)], vx + lam - mu, vy - mu, [h(y)]])
        apart = lam - mu  # of both inequalities together: 2 gamma2 h
        lower = np.concatenate([dg(z) - mu + (z - y) / gamma, [apart / (2 * gamma2) - h(z)]])
        return np.concatenate([lower, vx - apart, vy - lam, [apart / (2 * gamma2) - h(y)]])

    n = 5 * k + 2
    zero = conditions(np.zeros(n))
    matrix = np.stack([conditions(e) - zero for e in np.eye(n)], 1)
    return torch.from_numpy(np.linalg.lstsq(matrix, -zero, rcond=None)[0][: 3 * k])


CONSTRAINED = {
    "lv_hba": "lv_hba(lr=0.2,lr_inner=0.2,lr_mu=0.05,gamma=2.0,gamma2=0.1,growth=0.0,c={c})",
    "bic_gaffa": "bic_gaffa(lr=0.3,lr_inner=0.6,lr_mu=0.1,gamma=2.0,gamma2=0.1,growth=0.0,c={c})",
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_on_a_constrained_lower_level_the_limit_is_the_solution_up_to_one_over_c(name):
    problem = coupled()
    for c in (4.0, 8.0):
        end = run(make_solver(CONSTRAINED[name].format(c=c)), problem, 1500, tolerance=1e-9)
        torch.testing.assert_close(torch.cat([end.x, end.y]), limit(name, c, 2.0, 0.1), rtol=0, atol=1e-6)
    errors = [float((limit(name, c, 2.0, 0.1) - optimum()).norm()) for c in (8.0, 1e3, 2e3, 1e8)]
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=1e-2)
    assert errors[3] < 1e-6
    assert float((torch.cat([end.x, end.y]) - optimum()).norm()) == pytest.approx(errors[0], abs=1e-5)
    assert 0 < Judge(problem)(end.x, end.y)["phi_gap"] < 0.05


@pytest.mark.parametrize("name", CONSTRAINED)
def test_where_g_is_linear_and_the_constraint_slack_the_gap_is_flat_and_holds_them(name):
    """With one inequality and a start inside: f vanishes at 1, multipliers are zero, and so is the gap's gradient.

    The gap itself is k gamma/2 there: a stationary point of the penalised problem that is no answer of the lower level.
    """
    ones = torch.ones(9).double()
    problem = dataclasses.replace(coupled(sides=1), x0=ones[:3], y0=ones[3:])
    before, after, _ = step(CONSTRAINED[name].format(c=4.0), problem, z=torch.cat([ones[:3], ones[:3] - 2.0]))
    for one, other in zip(before[:5], after[:5], strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert float(problem.g(before.x, before.y) - problem.g(before.x, before.z)) - 3 / 2 * 2.0 == pytest.approx(3.0)


def test_without_constraints_the_constrained_methods_are_one_and_end_where_meha_does():
    """MEHA moves x after y, the others both at once: the first steps on z and y and the limit are the same."""
    q, knobs = quadratic(), "lr_inner=0.3,gamma=2.0,c=3.0,growth=0.2"
    a, b = (run(make_solver(f"{name}(lr=0.2,{knobs})"), q.problem, 25) for name in CONSTRAINED)
    torch.testing.assert_close((a.x, a.y, a.z), (b.x, b.y, b.z), rtol=1e-12, atol=1e-13)
    one, meha = (
        run(make_solver(text), q.problem, 1) for text in (f"lv_hba(lr=0.2,{knobs})", f"meha(lr_y=0.2,{knobs})")
    )
    torch.testing.assert_close((one.y, one.z), (meha.y, meha.z), rtol=1e-12, atol=1e-13)


def test_who_has_no_way_with_constraints_says_so():
    lower = coupled()
    upper = dataclasses.replace(quadratic(3, 6).problem, h_f=lambda x, y: y[:1])
    takes = {kind: {name for name in SOLVERS.names() if kind in make_solver(name).handles} for kind in ("h_f", "h_g")}
    assert {"lv_hba", "bic_gaffa"} <= takes["h_g"]
    assert "penalty" in takes["h_f"]
    for kind, problem in (("h_g", lower), ("h_f", upper)):
        for name in ("bome", "f2sa", "meha", "g_pbgd", "soba", "lv_hba", "penalty"):
            if name in takes[kind]:
                require(make_solver(name), problem)
            else:
                with pytest.raises(Unsupported, match="no way with constraints"):
                    require(make_solver(name), problem)
    with pytest.raises(Unsupported, match="no projection"):
        step("lv_hba", dataclasses.replace(lower, project_xy=None))
    step("bic_gaffa", dataclasses.replace(lower, project_xy=None))


@pytest.mark.parametrize("active", [True, False])
def test_penalty_meets_an_upper_constraint(active):
    """min |x - 2|^2/2 + y^2/2, y*(x) = x, x + y <= 1 or 5: x = y = 1/2 where it is active, x = y = 1 where it is not.

    At a fixed gamma the answer solves the penalised problem with a slack of its own, h + s^2 = 0, s >= 0.
    """
    bound = 1.0 if active else 5.0
    problem = Problem(
        f=lambda x, y: 0.5 * (x - 2).square().sum() + 0.5 * y @ y,
        g=lambda x, y: 0.5 * (y - x).square().sum(),
        x0=torch.tensor([3.0]).double(), y0=torch.tensor([0.0]).double(),
        h_f=lambda x, y: x + y - bound, y_star=lambda x: x, flags=frozenset({"strongly_convex"}),
    )  # fmt: skip
    gamma = 20.0
    fixed = run(
        make_solver(f"penalty(lr=0.02,lr_inner=0.02,T=2,gamma={gamma},{FIXED})"), problem, 1500, tolerance=1e-12
    )
    one = np.array([[1.0, 0.0], [0.0, 1.0]]) + gamma * np.array([[1.0, -1.0], [-1.0, 1.0]])
    right = np.array([2.0, 0.0])
    if active:
        one, right = one + gamma * np.ones((2, 2)), right + gamma * bound * np.ones(2)
    expected = np.linalg.solve(one, right)
    np.testing.assert_allclose([float(fixed.x), float(fixed.y)], expected, atol=1e-9)
    assert (expected.sum() > bound) == active
    growing = run(make_solver("penalty(lr=0.1,lr_inner=0.1,T=2,eps=0.1,gamma=2.0)"), problem, 1000)
    target = 0.5 if active else 1.0
    assert abs(float(growing.x) - target) < 0.02
    assert float(growing.gamma) > 2.0
    h, s = float(fixed.x + fixed.y) - bound, 1.0
    for _ in range(20000):  # the slack descended in, as in the paper, ends where it is put here
        s -= 0.002 * gamma * (h + s * s) * s
    assert h + s * s == pytest.approx(max(h, 0.0), abs=1e-6)
