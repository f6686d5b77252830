"""Solvers update by update, against the paper's formulas written out once more."""

import itertools
import math

import pytest
import torch

from bilevelbench import Oracle, make_solver
from bilevelbench.contract.quadratic import quadratic
from bilevelbench.core.solver import start


def steps(text, problem, n, state=None):
    """The states from the start on and the oracle that was asked."""
    made, oracle = make_solver(text), Oracle(problem)
    states = [start(made, problem, oracle) if state is None else state]
    for k in range(n):
        oracle.begin(k)
        states.append(made.step(oracle, states[-1]))
    return states, oracle


# -- Penalty, update by update


@pytest.mark.parametrize("tolerance", [0.999, 1.001])
@pytest.mark.parametrize("multipliers", [True, False])
def test_penalty_follows_algorithm_2(multipliers, tolerance):
    """T steps on y, one on x, then the test on squared norms against eps^2; gamma is raised before nu uses it."""
    q = quadratic()
    knobs = f"lr=0.03,lr_inner=0.05,T=2,gamma=2.0,c_gamma=1.3,c_eps=0.8,c_lam=0.7,multipliers={multipliers}"
    made = make_solver(f"penalty({knobs})")
    x, y = q.problem.x0, q.problem.y0
    gamma, lam, nu = 5.0, 1.5, torch.linspace(-1, 1, len(y)).double()
    shrink = 2.0 / 5.0  # gamma_0 / gamma
    u, v = x, y
    for _ in range(2):
        h = q.A @ v - q.B @ u - q.b
        vy = q.fy(u, v) + q.A @ (gamma * h + nu) + lam * h
        v = v - 0.05 * shrink * vy
    h = q.A @ v - q.B @ u - q.b
    vx = q.fx(u, v) - q.B.T @ (gamma * h + nu)
    u = u - 0.03 * shrink * vx
    eps = tolerance * float((vx @ vx + vy @ vy).sqrt())
    number = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    given = made.init(Oracle(q.problem), x, y)._replace(gamma=number(gamma), lam=number(lam), eps=number(eps), nu=nu)
    state = made.step(Oracle(q.problem), given)
    hit = tolerance > 1
    expected = given._replace(
        x=u,
        y=v,
        gamma=number(1.3 * gamma if hit else gamma),
        lam=number(0.7 * lam if hit else lam),
        eps=number(0.8 * eps if hit else eps),
        nu=nu + 1.3 * gamma * h if hit and multipliers else nu,
    )
    torch.testing.assert_close(tuple(state)[:6], tuple(expected)[:6], rtol=1e-12, atol=1e-13)


def test_penalty_starts_as_told_and_moves_gamma():
    """gamma that never moves is a silent descent on f alone."""
    states, _ = steps("penalty(lr=0.02,lr_inner=0.1,T=5,gamma=1.0,lam=0.5,eps=2.0)", quadratic().problem, 300)
    assert [float(number) for number in states[0][2:5]] == [1.0, 0.5, 2.0]
    assert not bool(states[0].nu.any())
    hits = round(math.log(float(states[-1].gamma)) / math.log(1.1))
    assert hits > 5
    assert float(states[-1].eps) == pytest.approx(2.0 * 0.9**hits)
    assert float(states[-1].lam) == pytest.approx(0.5 * 0.9**hits)


# -- schedules and memories


@pytest.mark.parametrize("lr_y", [None, 0.04])
def test_vpbgd_ramps_gamma_linearly_and_shrinks_its_steps(lr_y):
    """gamma_k = gamma (k + 1)/ramp up to gamma; both steps are multiplied by min(1, 1/gamma_k)."""
    q, ramp, gamma = quadratic(), 4, 6.0
    states, _ = steps(f"vpbgd(lr=0.1,lr_inner=0.5,T=1,gamma={gamma},ramp={ramp},lr_y={lr_y})", q.problem, 6)
    for k, (s, new) in enumerate(itertools.pairwise(states)):
        z = s.z - 0.5 * (q.A @ s.z - q.B @ s.x - q.b)
        c = gamma * min(1.0, (k + 1) / ramp)
        scale = min(1.0, 1 / c)
        x = s.x - 0.1 * scale * (q.fx(s.x, s.y) - c * q.B.T @ (s.y - z))
        y = s.y - (lr_y or 0.1) * scale * (q.fy(s.x, s.y) + c * (q.A @ s.y - q.B @ s.x - q.b))
        torch.testing.assert_close(tuple(new[:3]), (x, y, z), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("growth", [0.0, 1 / 3])
def test_f2sa_takes_its_steps_with_lambda_k(growth):
    """lambda_k = lam (k + 1)^growth; y moves by lr_inner/lambda_k."""
    q = quadratic()
    states, _ = steps(f"f2sa(lr=0.02,lr_inner=0.5,T=2,lam=3.0,growth={growth})", q.problem, 5)
    for k, (s, new) in enumerate(itertools.pairwise(states)):
        lam, y, z = 3.0 * (k + 1) ** growth, s.y, s.z
        for _ in range(2):
            z = z - 0.5 * (q.A @ z - q.B @ s.x - q.b)
            y = y - 0.5 / lam * (q.fy(s.x, y) + lam * (q.A @ y - q.B @ s.x - q.b))
        x = s.x - 0.02 * (q.fx(s.x, y) - lam * q.B.T @ (y - z))
        torch.testing.assert_close(tuple(new[:3]), (x, y, z), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("phi", ["norm", "gap"])
def test_bome_s_eps_stands_where_the_released_code_has_it(phi):
    """Norm barrier: eta - <grad f, grad q>/(|grad q|^2 + eps), so that eta is not shrunk. Gap: all of it is divided."""
    q, eps, eta = quadratic(), 0.7, 0.4
    solver, problem = make_solver(f"bome(lr=0.1,lr_inner=0.5,T=2,eta={eta},phi={phi!r},eps={eps})"), q.problem
    signs = set()
    for seed in range(12):
        rng = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in (problem.x0, problem.y0))
        z = q.y_star(x) + q.E(0.5, 2) @ (y - q.y_star(x))
        grad_q = torch.cat([-q.B.T @ (y - z), q.A @ (y - q.y_star(x))])
        grad_f = torch.cat([q.fx(x, y), q.fy(x, y)])
        if phi == "norm":
            lam = eta - float(grad_f @ grad_q) / (float(grad_q @ grad_q) + eps)
        else:
            gap = float(problem.g(x, y) - problem.g(x, z))
            lam = (eta * gap - float(grad_f @ grad_q)) / (float(grad_q @ grad_q) + eps)
        signs.add(lam > 0)
        oracle = Oracle(problem)
        new = solver.step(oracle, solver.init(oracle, x, y))
        expected = torch.cat([x, y]) - 0.1 * (grad_f + max(lam, 0.0) * grad_q)
        torch.testing.assert_close(torch.cat([new.x, new.y]), expected, rtol=1e-10, atol=1e-11)
    assert signs == {True, False}


def test_bome_s_heavy_ball_is_on_both_variables():
    """buffer = momentum buffer + direction; the direction itself does not know of the buffer."""
    problem = quadratic().problem
    plain = "bome(lr=0.01,lr_y=0.03,lr_inner=0.5,T=3)"
    states, _ = steps(plain.replace(")", ",update='heavy_ball',momentum=0.8)"), problem, 4)
    mx, my = torch.zeros_like(problem.x0), torch.zeros_like(problem.y0)
    for s, new in itertools.pairwise(states):
        bare = make_solver(plain)
        after = bare.step(Oracle(problem), bare.init(Oracle(problem), s.x, s.y))
        mx, my = 0.8 * mx + (s.x - after.x) / 0.01, 0.8 * my + (s.y - after.y) / 0.03
        found = (new.x, new.y, *new.m.first)
        torch.testing.assert_close(found, (s.x - 0.01 * mx, s.y - 0.03 * my, mx, my), rtol=1e-9, atol=1e-11)


def test_itd_cold_begins_at_the_start_every_time_and_warm_at_the_last_y():
    problem = quadratic().problem
    for warm in (True, False):
        text = f"itd(lr=0.1,lr_inner=0.5,T=2,warm={warm})"
        states, _ = steps(text, problem, 3)
        assert all(torch.equal(state.start, problem.y0) for state in states)
        moved = states[-2]._replace(y=states[-2].y + 1)
        change = float((steps(text, problem, 1, moved)[0][-1].y - states[-1].y).norm())
        assert change > 1e-3 if warm else change < 1e-12
