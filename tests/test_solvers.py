"""All solvers: numbers at the edge of arithmetic, minibatches, devices, and what their documents say.

What all solvers keep is in test_contract.py, where they end is in test_certificates.py, single steps in test_steps.py.
"""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from bilevelbench import Oracle, Problem, Unsupported, make_solver
from bilevelbench.catalogue import FAMILIES, regenerated
from bilevelbench.contract import SOLVER_CHECKS
from bilevelbench.contract.quadratic import quadratic
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start
from bilevelbench.core.spec import parse

# Ours only: other tests and other people's packages register solvers too.
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
README = Path(__file__).parents[1] / "solvers" / "README.md"
VARIANTS = [  # knobs that take another path through a step; choices and switches are tried in test_contract.py
    "aid_cg(damping=0.5)",
    "aid_neumann(lr_linear=0.05,K=1)",
    "bome(lr_y=1)",
    "bome(phi='gap',eps=1e-8,update='heavy_ball',momentum=0.5)",
    "f2sa(growth=0.3333333333333333)",
    "penalty(lam=1.0,eps=1e9)",
    "penalty(gamma=0.0)",
    "soba(decay=0.5)",
    "vpbgd(ramp=3,T=2)",
    "vpbgd(gamma=0.0)",
]
TARGETS = [*NAMES, *VARIANTS, "bome(phi='gap')", "bome(eps=1e-4)", "itd(warm=False)"]


def steps(text, problem, n, seed=0, state=None, first=0):
    """The states from the start on and the oracle that was asked."""
    made, oracle = make_solver(text), Oracle(problem, seed)
    states = [start(made, problem, oracle) if state is None else state]
    for k in range(first, first + n):
        oracle.begin(k)
        states.append(made.step(oracle, states[-1]))
    return states, oracle


def finite(state):
    return all(bool(torch.isfinite(t).all()) for t in tree_leaves(state) if isinstance(t, torch.Tensor))


@pytest.mark.parametrize(("text", "check"), [(text, check) for text in VARIANTS for check in SOLVER_CHECKS])
def test_variants_keep_the_contract(text, check):
    SOLVER_CHECKS[check](text)


def _sized(text, T, K):
    """The spec with this T and this K, where the solver has them."""
    spec = parse(text)
    fields = {field.name for field in dataclasses.fields(SOLVERS.entries[spec.name].make)}
    knobs = {knob: value for knob, value in (("T", T), ("K", K)) if knob in fields}
    return str(spec._replace(arguments=spec.arguments | knobs))


@pytest.mark.parametrize("name", NAMES)
def test_order_is_the_highest_derivative_asked_for(name):
    _, oracle = steps(name, quadratic().problem, 1)
    assert make_solver(name).order == (2 if any(kind.startswith("d2") for kind in oracle.calls) else 1)


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
    at_rest = {"penalty_in_bome": "penalty_in_bome(nu=0.0)"}  # its multipliers begin at 1e-4, and move y
    states, _ = steps(at_rest.get(text, text), bowl(), 5)
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
    states, oracle = steps(text, problem, 4)
    if not {"f", "df", "df_x", "df_y", "d2f"} & set(oracle.calls) and which == "f":
        pytest.skip("it never asks f")
    state = states[-1]
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
            oracle = Oracle(Problem(f=f, g=g, x0=zero, y0=zero))
            x = made.step(oracle, made.init(oracle, zero, zero)).x
            torch.testing.assert_close(x, zero - s, rtol=1e-6, atol=1e-18)  # H q = s and C = -H


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
    torch.testing.assert_close(tuple(resumed[-1][:3]), tuple(whole[-1][:3]), rtol=1e-12, atol=1e-13)
    other, _ = steps("soba(batch=3)", finite_sum(), 8, seed=6)
    assert float((whole[-1].x - other[-1].x).norm()) > 1e-6


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


def test_the_readme_s_tables_are_current():
    text = README.read_text(encoding="utf-8")
    assert regenerated(text) == text, "run: python -m bilevelbench.catalogue solvers/README.md"
    for name in NAMES:
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("name", NAMES)
def test_what_is_unverified_says_so_in_its_docstring(name):
    entry = SOLVERS.entries[name]
    assert bool(entry.make.unverified) == ("unverified" in entry.doc)
    assert entry.make.family in FAMILIES[:-1]
