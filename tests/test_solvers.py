"""Solvers one by one: their cost in the papers' terms, their schedules, and numbers at the edge of arithmetic.

What all solvers keep is in test_contract.py, where they end is in test_certificates.py.
"""

import itertools
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from bilevelbench import Oracle, Point, Problem, Unsupported, make_solver
from bilevelbench.contract import SOLVER_CHECKS
from bilevelbench.core.registry import SOLVERS, parse
from bilevelbench.core.solver import start
from tests.quadratic_theory import quadratic

# Ours only: other tests and other people's packages register solvers too.
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
VARIANTS = [  # knobs that take another path through a step; choices and switches are tried in test_contract.py
    "aid_cg(damping=0.5)",
    "aid_neumann(lr_linear=0.05,K=1)",
    "bome(lr_y=1)",
    "bome(phi='gap',eps=0.0,momentum=0.5)",
    "f2sa(growth=0.3333333333333333)",
    "penalty(lam=1.0,eps=1e9)",
    "penalty(gamma=0.0)",
    "soba(decay=0.5)",
    "vpbgd(ramp=3,T=2)",
    "vpbgd(gamma=0.0)",
]
TARGETS = [*NAMES, *VARIANTS, "bome(phi='gap')", "bome(eps=0.0)", "itd(warm=False)"]


def steps(text, problem, n, seed=0, state=None, first=0):
    """The states from the start on and the oracle that was asked."""
    made, oracle = make_solver(text), Oracle(problem, seed)
    states = [start(made, problem, oracle) if state is None else state]
    for k in range(first, first + n):
        oracle.begin(k)
        states.append(made.step(oracle, states[-1]))
    return states, oracle


def finite(state):
    return all(bool(torch.isfinite(t).all()) for t in state if isinstance(t, torch.Tensor))


@pytest.mark.parametrize(("text", "check"), [(text, check) for text in VARIANTS for check in SOLVER_CHECKS])
def test_variants_keep_the_contract(text, check):
    SOLVER_CHECKS[check](text)


# -- cost

# One answer of the oracle in the terms that papers count in.
PARTS = {
    "f": ["F"], "df": ["gF"], "df_x": ["gF"], "df_y": ["gF"],
    "g": ["G"], "dg": ["gG_x", "gG_y"], "dg_x": ["gG_x"], "dg_y": ["gG_y"],
    "d2g": ["HVP", "CP"], "d2g_yy": ["HVP"], "d2g_xy": ["CP"],
}  # fmt: skip
# Per step, from the algorithms: gradients of f, partial gradients of g in y and in x, Hessian and cross products.
COST = {
    "aid_cg": lambda T, K: {"gF": 1, "gG_y": T, "HVP": K, "CP": 1},
    "aid_neumann": lambda T, K: {"gF": 1, "gG_y": T, "HVP": K - 1, "CP": 1},
    "bome": lambda T, K: {"gF": 1, "gG_y": T + 1, "gG_x": 2},
    "bome(phi='gap')": lambda T, K: {"gF": 1, "gG_y": T + 1, "gG_x": 2, "G": 2},
    "f2sa": lambda T, K: {"gF": T + 1, "gG_y": 2 * T, "gG_x": 2},
    "first_order": lambda T, K: {"gF": 1, "gG_y": T},
    "itd": lambda T, K: {"gF": 1, "gG_y": T, "HVP": T, "CP": T},
    "itd(warm=False)": lambda T, K: {"gF": 1, "gG_y": T, "HVP": T, "CP": T},
    "penalty": lambda T, K: {"gF": T + 1, "gG_y": T + 1, "HVP": T, "CP": 1},
    "soba": lambda T, K: {"gF": 1, "gG_y": 1, "HVP": 1, "CP": 1},
    "vpbgd": lambda T, K: {"gF": 1, "gG_y": T + 1, "gG_x": 2},
}


def _sized(text, T, K):
    """The spec with this T and this K, where the solver has them."""
    spec = parse(text)
    fields = SOLVERS.entries[spec.name].make.__dataclass_fields__
    knobs = {knob: value for knob, value in (("T", T), ("K", K)) if knob in fields}
    return str(spec._replace(arguments=spec.arguments | knobs))


@pytest.mark.parametrize(("T", "K"), [(1, 1), (1, 4), (5, 1), (5, 4)])
@pytest.mark.parametrize("text", COST)
def test_a_step_costs_what_the_paper_says(text, T, K):
    _, oracle = steps(_sized(text, T, K), quadratic().problem, 3)
    cost = Counter(part for kind, n in oracle.calls.items() for part in PARTS[kind] * n)
    assert cost == Counter({part: 3 * n for part, n in COST[text](T, K).items()})


def test_every_solver_has_its_cost_here():
    assert {text.partition("(")[0] for text in COST} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_order_is_the_highest_derivative_asked_for(name):
    _, oracle = steps(name, quadratic().problem, 1)
    assert SOLVERS.entries[name].make.order == (2 if any(kind.startswith("d2") for kind in oracle.calls) else 1)


# -- at the edge of arithmetic


def bowl(dtype=torch.float64):
    """f and g whose gradients are all exactly zero at the solution (0, 0)."""
    zero = torch.zeros(3, dtype=dtype)
    return Problem(
        f=lambda x, y: 0.5 * (x @ x) + 0.5 * (y @ y), g=lambda x, y: 0.5 * ((y - x) @ (y - x)), x0=zero, y0=zero.clone()
    )


@pytest.mark.parametrize("text", TARGETS)
def test_the_exact_solution_is_kept(text):
    """All gradients are exactly zero there: nothing is divided by them, and nothing moves."""
    states, _ = steps(text, bowl(), 5)
    for state in states:
        assert finite(state)
        assert not bool(state.x.any() or state.y.any())


@pytest.mark.parametrize("text", TARGETS)
def test_a_long_run_at_zero_gradients_stays_finite(text):
    """In float32, where 1.1^k overflows after 930 factors."""
    assert finite(steps(_sized(text, 1, 1), bowl(torch.float32), 1200)[0][-1])


@pytest.mark.parametrize("which", ["f", "g"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("text", TARGETS)
def test_one_bad_function_is_seen(text, bad, which):
    """A gradient that is not finite reaches the iterates, also when the other function is sound."""
    q = quadratic()
    sound = getattr(q.problem, which)
    # f of nothing but x would not be noticed by all: spoil every partial derivative
    functions = {which: lambda x, y: bad * (x.sum() + y.sum()) + sound(x, y)}
    problem = Problem(**{"f": q.problem.f, "g": q.problem.g, **functions}, x0=q.problem.x0, y0=q.problem.y0)
    state = steps(text, problem, 4)[0][-1]
    assert not bool(torch.isfinite(state.x).all() and torch.isfinite(state.y).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("K", [1, 3, 50])
def test_conjugate_gradients_survive_underflow(K, dtype):
    """Right-hand sides of every size, and residuals that shrink through the subnormal numbers."""
    made = make_solver(f"aid_cg(lr=1.0,lr_inner=0.1,T=1,K={K})")
    zero = torch.zeros(1, dtype=dtype)
    for h in (0.05, 3.0):
        for s in (10.0**-exponent for exponent in range(110)):
            f, g = lambda x, y, s=s: s * y.sum(), lambda x, y, h=h: 0.5 * h * ((y - x) @ (y - x))
            x = made.step(Oracle(Problem(f=f, g=g, x0=zero, y0=zero)), Point(zero, zero)).x
            torch.testing.assert_close(x, zero - s, rtol=1e-6, atol=1e-18)  # H q = s and C = -H


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
    torch.testing.assert_close(tuple(state), tuple(expected), rtol=1e-12, atol=1e-13)


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


def test_bome_s_momentum_is_a_heavy_ball_on_both_variables():
    """buffer = momentum buffer + direction; the direction itself does not know of the buffer."""
    problem = quadratic().problem
    plain = "bome(lr=0.01,lr_y=0.03,lr_inner=0.5,T=3)"
    states, _ = steps(plain.replace(")", ",momentum=0.8)"), problem, 4)
    mx, my = torch.zeros_like(problem.x0), torch.zeros_like(problem.y0)
    for s, new in itertools.pairwise(states):
        bare = make_solver(plain)
        after = bare.step(Oracle(problem), bare.init(Oracle(problem), s.x, s.y))
        mx, my = 0.8 * mx + (s.x - after.x) / 0.01, 0.8 * my + (s.y - after.y) / 0.03
        torch.testing.assert_close(tuple(new), (s.x - 0.01 * mx, s.y - 0.03 * my, mx, my), rtol=1e-9, atol=1e-11)


def test_itd_cold_begins_at_the_start_every_time_and_warm_at_the_last_y():
    problem = quadratic().problem
    for warm in (True, False):
        text = f"itd(lr=0.1,lr_inner=0.5,T=2,warm={warm})"
        states, _ = steps(text, problem, 3)
        assert all(torch.equal(state.start, problem.y0) for state in states)
        moved = states[-2]._replace(y=states[-2].y + 1)
        same = torch.equal(steps(text, problem, 1, state=moved)[0][-1].y, states[-1].y)
        assert same != warm


# -- minibatches


def finite_sum(n=12):
    """A quadratic whose f and g are means over rows."""
    rng = torch.Generator().manual_seed(1)
    c, d = (torch.randn(n, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    return Problem(
        f=lambda x, y, rows=None: 0.5 * ((y - (c if rows is None else c[rows])) ** 2).sum(-1).mean() + 0.5 * x @ x,
        g=lambda x, y, rows=None: 0.5 * ((y - x - (d if rows is None else d[rows])) ** 2).sum(-1).mean(),
        x0=torch.ones(3, dtype=torch.float64),
        y0=torch.zeros(3, dtype=torch.float64),
        n_f=n,
        n_g=n,
    )


def test_soba_asks_about_its_minibatch_only():
    _, oracle = steps("soba(batch=4)", finite_sum(), 5)
    assert oracle.calls == dict.fromkeys(("draw_f", "draw_g", "df", "d2g", "dg_y"), 5)
    assert oracle.rows == dict.fromkeys(("df", "d2g", "dg_y"), 20)


def test_soba_with_all_rows_in_a_minibatch_is_soba():
    plain, batched = steps("soba", finite_sum(), 20)[0], steps("soba(batch=12)", finite_sum(), 20)[0]
    for whole, batch in zip(plain, batched, strict=True):
        torch.testing.assert_close(tuple(batch[:3]), tuple(whole[:3]), rtol=1e-12, atol=1e-13)


def test_soba_resumes_with_the_minibatches_that_it_would_have_met():
    whole, _ = steps("soba(batch=3)", finite_sum(), 8, seed=5)
    resumed, _ = steps("soba(batch=3)", finite_sum(), 4, seed=5, state=whole[4], first=4)
    assert all(torch.equal(a, b) for a, b in zip(whole[-1][:3], resumed[-1][:3], strict=True))
    other, _ = steps("soba(batch=3)", finite_sum(), 8, seed=6)
    assert not torch.equal(whole[-1].x, other[-1].x)


def test_soba_s_minibatches_average_to_its_full_direction():
    """With decaying steps the noise averages out: the iterates come near the full-batch solution."""
    problem = finite_sum()
    exact = steps("soba(lr=0.1,lr_inner=0.3)", problem, 1500)[0][-1].x
    noisy = torch.stack([state.x for state in steps("soba(lr=0.1,lr_inner=0.3,batch=4)", problem, 3000)[0][1000:]])
    spread = float(noisy.std(0).norm())
    assert spread > 0.01
    assert float((noisy.mean(0) - exact).norm()) < 0.3 * spread


def test_minibatches_of_what_is_no_sum_are_unsupported():
    with pytest.raises(Unsupported):
        steps("soba(batch=4)", quadratic().problem, 1)


# -- devices and documents


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("text", [*TARGETS, "soba(batch=4)"])
def test_the_state_stays_on_its_device_and_agrees_with_the_cpu(text):
    ends = []
    for device in ("cpu", "cuda"):
        here = finite_sum()
        moved = Problem(
            f=lambda x, y, rows=None, here=here: here.f(x.cpu(), y.cpu(), rows if rows is None else rows.cpu()),
            g=lambda x, y, rows=None, here=here: here.g(x.cpu(), y.cpu(), rows if rows is None else rows.cpu()),
            x0=here.x0.to(device),
            y0=here.y0.to(device),
            n_f=here.n_f,
            n_g=here.n_g,
        )
        state = steps(text, moved, 5)[0][-1]
        assert all(t.device.type == device for t in state if isinstance(t, torch.Tensor))
        ends.append((state.x.cpu(), state.y.cpu()))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-11)


def test_the_readme_knows_every_solver_and_every_certificate():
    text = (Path(__file__).parents[1] / "solvers" / "README.md").read_text()
    for name in NAMES:
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE), f"solvers/README.md has no row for {name}"
        claim = SOLVERS.entries[name].make.certificate
        assert re.search(rf"^\| `{claim}` \|", text, re.MULTILINE), f"solvers/README.md does not define {claim!r}"
