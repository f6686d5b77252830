"""Every solver ends where theory says it ends, bias included, on quadratics in float64.

The certificate that a solver claims is what ``bilevelbench check`` looks up, too; a solver of ours without one fails.
"""

from pathlib import Path

import pytest
import torch

from bilevelbench import Oracle, make_solver
from bilevelbench.contract import check, limits
from bilevelbench.contract.certificates import LADDER, SIZES, findings, run
from bilevelbench.contract.claims import CLAIMS
from bilevelbench.contract.found import exponent
from bilevelbench.contract.quadratic import Quadratic, quadratic
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start

WRONG = Path(__file__).with_name("wrong_claims.py")
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]


@pytest.mark.parametrize("name", NAMES)
def test_every_solver_ends_where_it_claims(name):
    """Ours only: other tests and other people's packages register solvers too."""
    assert SOLVERS.entries[name].make().certificate, f"{name} claims no certificate; choose one of {sorted(CLAIMS)}"
    found = list(findings(name))
    for finding in found:
        claim = CLAIMS[make_solver(finding.setting).certificate]
        allowed = 1e-8 if claim.how == "limit" else finding.allowed
        assert finding.found < allowed, f"{finding.setting} on {finding.size} is {finding.found:.2e} away"
    rule = CLAIMS[SOLVERS.entries[name].make().certificate].how == "rule"
    assert bool(found) != rule


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong_limit", "claims 'exact'"),
        ("wrong_term_count", "claims 'neumann'"),
        ("wrong_calls", "declared are 1 to 1"),
        ("wrong_memory", "copies of y"),
        ("unknown_claim", "none of"),
        ("unknown_kind", "no kind of oracle call"),
        ("wrong_order", "declares order 1, and asks for d2g_xy: measured is 2"),
        ("too_high_an_order", "declares order 2, and asks for"),
        ("keeps_history", "1.0 copies of y more after every step: it keeps a history"),
        ("square_memory", "declared is n^1"),
    ],
)
def test_a_wrong_claim_fails(name, words):
    passed, text = check(f"{WRONG}:{name}")
    assert not passed
    assert words in text


def test_what_declares_nothing_is_told_what_was_found():
    passed, text = check(f"{WRONG}:says_nothing")
    assert passed
    assert "1, as measured; it declares none" in text
    assert "it declares nothing of itself, found are order 1, a step asks df_x, 3 dg_y and holds" in text
    assert "is what it says" not in text.splitlines()[-1]


def test_a_matrix_shows_as_a_power_of_n():
    assert exponent(make_solver(f"{WRONG}:square_memory")) > 1.7
    assert exponent(make_solver("soba")) < 1.05


def test_limits_differ_so_that_the_certificates_tell_solvers_apart():
    q = quadratic(*SIZES[0])
    points = [
        q.x_star,
        limits.W(q, q.truncated(1.0, 3)),
        limits.W(q, torch.zeros_like(q.A)),
        limits.penalised(q, q.A, 3.0),
        limits.penalised(q, q.A @ q.A, 3.0),
    ]
    for i, a in enumerate(points):
        assert all(float((a - b).norm()) > 1e-3 for b in points[:i])


# -- BOME


@pytest.mark.parametrize(("T", "phi"), [(1, "norm"), (1, "gap"), (3, "gap"), (5, "norm")])
def test_bome_ends_at_the_truncated_limit_up_to_a_floor_proportional_to_lr(T, phi):
    q = quadratic()
    limit, state, distance = limits.W(q, q.truncated(1.0, T)), None, []
    for lr, steps in LADDER:
        state = run(make_solver(f"bome(lr={lr},lr_inner=1.0,T={T},phi={phi!r})"), q.problem, steps, state)
        distance.append(float((state.x - limit).norm()))
    assert distance[0] < 0.02
    assert 9 < distance[0] / distance[2] < 11, f"the floor falls {distance[0] / distance[2]:.3g}-fold, not tenfold"
    if T < 5:  # far from the solution, as far as theory says
        assert float((limit - q.x_star).norm()) > 20 * distance[2]


@pytest.mark.parametrize("phi", ["norm", "gap"])
def test_bome_s_direction_is_the_projection_of_grad_f_on_the_barrier(phi):
    """<d, grad q> >= phi, equality iff lambda > 0, and d = grad f where lambda = 0."""
    q, lr, active = quadratic(), 1e-3, set()
    problem = q.problem
    solver = make_solver(f"bome(lr={lr},lr_inner=0.5,T=4,phi={phi!r})")
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        x, y = (torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in (problem.x0, problem.y0))
        oracle = Oracle(problem)
        new = solver.step(oracle, solver.init(oracle, x, y))
        d = torch.cat([x - new.x, y - new.y]) / lr
        z = q.y_star(x) + q.E(0.5, 4) @ (y - q.y_star(x))
        grad_q = torch.cat([-q.B.T @ (y - z), q.A @ (y - q.y_star(x))])  # the pure-x part cancels
        gap = problem.g(x, y) - problem.g(x, z)
        barrier = 0.5 * (grad_q @ grad_q if phi == "norm" else gap)
        grad_f = torch.cat([q.fx(x, y), q.fy(x, y)])
        slack, scale = float(d @ grad_q - barrier), float(grad_q @ grad_q)
        assert slack > -1e-9 * scale
        if float(grad_f @ grad_q - barrier) < 0:  # lambda > 0
            active.add(True)
            assert abs(slack) < 1e-9 * scale
        else:
            active.add(False)
            torch.testing.assert_close(d, grad_f, rtol=1e-9, atol=1e-9)
    assert active == {True, False}


# -- identities of a single step


def direction(text, problem, state=None):
    """(x - x_new) / lr of one step."""
    solver, oracle = make_solver(text), Oracle(problem)
    state = state or start(solver, problem, oracle)
    return (state.x - solver.step(oracle, state).x) / solver.lr


@pytest.mark.parametrize("bounds", [None, 0.4])
def test_itd_is_the_derivative_of_the_unrolled_map(bounds):
    """Central differences of x -> f(x, y_T(x)), also where a bound on y is active along the way."""
    import dataclasses

    from bilevelbench import box

    q = quadratic()
    problem = q.problem
    if bounds:
        problem = dataclasses.replace(problem, project_y=box(-bounds, bounds), y0=problem.y0.clamp(-bounds, bounds))
    project = problem.project_y or (lambda y: y)

    def unrolled(x):
        y = problem.y0
        for _ in range(6):
            y = project(y - 0.9 * (q.A @ y - q.B @ x - q.b))
        return float(problem.f(x, y)), y

    if bounds:
        _, y = unrolled(problem.x0)
        assert 0 < int((y.abs() == bounds).sum()) < len(y), "some bounds must be active and some not"
    h = 1e-5
    differences = torch.stack(
        [
            torch.tensor((unrolled(problem.x0 + h * e)[0] - unrolled(problem.x0 - h * e)[0]) / (2 * h))
            for e in torch.eye(3).double()
        ]
    )
    found = direction("itd(lr=0.1,lr_inner=0.9,T=6)", problem)
    torch.testing.assert_close(found, differences.double(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("T", [1, 7])
def test_itd_equals_the_closed_form(T, size):
    q = quadratic(*size)
    problem = q.problem
    y = q.y_star(problem.x0) + q.E(0.9, T) @ (problem.y0 - q.y_star(problem.x0))
    J = q.truncated(0.9, T) @ q.B
    expected = q.fx(problem.x0, y) + J.T @ q.fy(problem.x0, y)
    for warm in (True, False):  # the first step knows no difference
        found = direction(f"itd(lr=0.1,lr_inner=0.9,T={T},warm={warm})", problem)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("K", [1, 2, 5])
def test_a_neumann_series_has_k_terms(K, size):
    q = quadratic(*size)
    problem = q.problem
    y = q.y_star(problem.x0) + q.E(0.9, 2) @ (problem.y0 - q.y_star(problem.x0))
    expected = q.fx(problem.x0, y) + q.B.T @ q.truncated(0.4, K) @ q.fy(problem.x0, y)
    found = direction(f"aid_neumann(lr=0.1,lr_inner=0.9,lr_linear=0.4,T=2,K={K})", problem)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("T", [1, 3, 8])
def test_unrolling_t_steps_is_a_neumann_series_of_t_terms(T, size):
    """Where the Hessian is constant: one identity between two independent files."""
    problem = quadratic(*size).problem
    unrolled = direction(f"itd(lr=0.1,lr_inner=0.8,T={T})", problem)
    series = direction(f"aid_neumann(lr=0.1,lr_inner=0.8,T={T},K={T})", problem)
    torch.testing.assert_close(unrolled, series, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_damping_solves_with_a_shifted_hessian(damping):
    q = quadratic()
    problem = q.problem
    y = q.y_star(problem.x0) + q.E(0.9, 2) @ (problem.y0 - q.y_star(problem.x0))
    shifted = q.A + damping * torch.eye(len(q.A)).double()
    expected = q.fx(problem.x0, y) + q.B.T @ torch.linalg.solve(shifted, q.fy(problem.x0, y))
    found = direction(f"aid_cg(lr=0.1,lr_inner=0.9,T=2,K=6,damping={damping})", problem)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("ny", "kappa"), [(1, 1.0), (4, 30.0), (6, 5.0)])
def test_conjugate_gradients_are_exact_after_as_many_iterations_as_variables(ny, kappa):
    """One variable and one iteration catch the copied bug that returns the previous iterate: there it returns zero."""
    q = quadratic(3, ny, kappa)
    problem = q.problem
    y = q.y_star(problem.x0) + q.E(0.9, 2) @ (problem.y0 - q.y_star(problem.x0))
    expected = q.fx(problem.x0, y) + q.J.T @ q.fy(problem.x0, y)
    for K in (ny, ny + 5):
        found = direction(f"aid_cg(lr=0.1,lr_inner=0.9,T=2,K={K})", problem)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_the_bias_of_a_penalty_halves_when_its_weight_doubles(power):
    q = quadratic()
    N = torch.linalg.matrix_power(q.A, power)
    errors = [float((limits.penalised(q, N, c) - q.x_star).norm()) for c in (1e4, 2e4)]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=1e-2)


def test_soba_is_its_linear_map_and_converges_at_its_spectral_rate():
    q, a, b = quadratic(), 0.4, 0.05
    ny, nx = len(q.p), len(q.r)
    M = torch.cat(
        [
            torch.cat([q.A, torch.zeros(ny, ny), -q.B], 1),
            torch.cat([q.P, q.A, q.S.T], 1),
            torch.cat([q.S, -q.B.T, q.R], 1),
        ]
    )
    steps = torch.diag(torch.tensor([a] * (2 * ny) + [b] * nx, dtype=torch.float64))
    one = torch.eye(2 * ny + nx) - steps @ M
    y = q.y_star(q.x_star)
    end = torch.cat([y, -torch.linalg.solve(q.A, q.fy(q.x_star, y)), q.x_star])

    def error(state):
        return torch.cat([state.y, state.v, state.x]) - end

    solver, problem = make_solver(f"soba(lr={b},lr_inner={a})"), q.problem
    begin = run(solver, problem, 0)
    early = run(solver, problem, 60)
    torch.testing.assert_close(error(early), torch.linalg.matrix_power(one, 60) @ error(begin), rtol=1e-10, atol=1e-12)
    # The rate of the iterates is the spectral radius: the powers of the map grow and fall with it.
    rate = float(torch.linalg.eigvals(one).abs().max())
    assert rate < 1
    late = run(solver, problem, 240, early)
    assert (float(error(late).norm()) / float(error(early).norm())) ** (1 / 240) == pytest.approx(rate, rel=1e-2)
    assert float(error(run(solver, problem, 3000)).norm()) < 1e-9


def test_the_multipliers_of_penalty_tend_to_the_adjoint():
    q = quadratic()
    solver = make_solver("penalty(" + make_solver("penalty").certified[-1] + ")")
    state = run(solver, q.problem, 20000, tolerance=1e-11)
    adjoint = -torch.linalg.solve(q.A, q.fy(q.x_star, q.y_star(q.x_star)))
    assert float((state.nu - adjoint).norm()) < 1e-8


def test_the_closed_forms_are_right():
    """The theory itself against numerical optimisation, so that a shared slip cannot hide."""
    q: Quadratic = quadratic(kappa=10.0)
    x = q.x_star.clone().requires_grad_()
    phi = q.problem.f(x, q.y_star(x))
    (gradient,) = torch.autograd.grad(phi, x)
    assert float(gradient.norm()) < 1e-10
    for N, c in ((q.A, 5.0), (q.A @ q.A, 5.0)):
        x = limits.penalised(q, N, c).requires_grad_()
        y = q.y_star(x) - torch.linalg.solve(q.P + c * N, q.fy(x, q.y_star(x)))
        difference = y - q.y_star(x)
        (gradient,) = torch.autograd.grad(q.problem.f(x, y) + 0.5 * c * difference @ N @ difference, x)
        assert float(gradient.norm()) < 1e-10
    torch.testing.assert_close(limits.helped(q, 5.0, 0.0), limits.penalised(q, q.A @ q.A, 5.0), rtol=1e-10, atol=1e-12)
    y0 = q.problem.y0
    x = limits.cold(q, 0.9, 4).requires_grad_()
    y = q.y_star(x) + q.E(0.9, 4) @ (y0 - q.y_star(x))
    (gradient,) = torch.autograd.grad(q.problem.f(x, y), x)
    assert float(gradient.norm()) < 1e-10


def test_a_growing_multiplier_takes_f2sa_along_the_path_of_penalised_solutions():
    """lambda_k = lam (k + 1)^(1/3): x lags behind its moving target by little, while the target nears the solution."""
    q, steps = quadratic(), 2500
    state = run(make_solver("f2sa(lr=0.05,lr_inner=0.5,T=5,lam=1.0,growth=0.3333333333333333)"), q.problem, steps)
    target = limits.penalised(q, q.A, steps ** (1 / 3))
    bias = float((target - q.x_star).norm())
    assert float((state.x - target).norm()) < 0.02 * bias
    assert bias < 0.3 * float((limits.penalised(q, q.A, 1.0) - q.x_star).norm())
