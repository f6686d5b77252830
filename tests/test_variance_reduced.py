"""Variance-reduced solvers: with all rows the plain method, with minibatches the right mean, and exact in the limit.

Means are over every minibatch that a step can draw, enumerated. The points from which a step is looked at come from a
few stochastic steps before it, so that tables and estimates are as worn as in a run.
"""

import itertools

import pytest
import torch

from bilevelbench import Oracle, make_solver
from bilevelbench.contract import limits
from bilevelbench.contract.certificates import SIZES, run
from bilevelbench.contract.cost import copies
from bilevelbench.contract.enumerate import mean
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core.solver import start

STEPS = 30
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def steps(text, problem, n, state=None, first=0, seed=0):
    """The states from the start, or from a given state before step ``first``, on."""
    made, oracle = make_solver(text), Oracle(problem, seed)
    states = [start(made, problem, oracle) if state is None else state]
    for k in range(first, first + n):
        oracle.begin(k)
        states.append(made.step(oracle, states[-1]))
    return states


def once(text, problem, state, k=0, **changed):
    """One step of a solver from a point of another one's."""
    made = make_solver(text)
    oracle = Oracle(problem)
    given = made.init(oracle, state.x, state.y)._replace(**changed)
    oracle.begin(k)
    return made.step(oracle, given)


def at_once(upper, lower):
    """A one-loop method from solvers that move y first: x by ``upper`` without its step on y, y by ``lower``."""

    def follow(problem, n):
        points = steps(lower, problem, 0)
        for k in range(n):
            x, y = once(upper, problem, points[-1], k).x, once(lower, problem, points[-1], k).y
            points.append(points[-1]._replace(x=x, y=y))
        return points

    return follow


def x_first(text):
    """A method that moves x before y, from the plain one: its x is then a step ahead of its y."""

    def follow(problem, n):
        first = start(make_solver(text), problem, Oracle(problem))
        ahead = once(text.replace("T=4", "T=1,lr_linear=0.5").replace("lr_inner=0.5", "lr_inner=0.0"), problem, first)
        states = steps(text, problem, n, first._replace(x=ahead.x))
        return [first, *(s._replace(y=after.y) for s, after in itertools.pairwise(states))]

    return follow


def itself(text):
    return lambda problem, n: steps(text, problem, n)


SOBA = "lr=0.05,lr_inner=0.5,decay=0.3"
F2SA = "lr=0.05,lr_inner=0.5,lam=3.0,growth=0.2,decay=0.6,decay_inner=0.4"
ALTERNATE = "aid_neumann(lr_inner=0.5,T=1)"
PLAIN = [  # what each is with all rows
    (f"saba({SOBA})", itself(f"soba({SOBA})"), "xyv"),
    (f"srba({SOBA},period=7)", itself(f"soba({SOBA})"), "xyv"),
    (f"spaba({SOBA},period=7)", itself(f"soba({SOBA})"), "xyv"),
    (f"f3sa({F2SA},eta=0.2)", itself(f"f2sa({F2SA},T=1)"), "xyz"),
    (
        "mrbo(lr=0.05,lr_inner=0.5,K=4,eta=0.2)",
        at_once("aid_neumann(lr=0.05,lr_inner=0.0,lr_linear=0.5,K=4,T=1)", ALTERNATE),
        "xy",
    ),
    (  # a longer product is random whatever the rows are, so that estimates from two steps differ
        "sustain(lr=0.05,lr_inner=0.5,K=1,eta=0.2)",
        at_once("aid_neumann(lr=0.05,lr_inner=0.0,lr_linear=0.5,K=1,T=1)", ALTERNATE),
        "xy",
    ),
    (
        "sustain(lr=0.05,lr_inner=0.5,K=4,eta=1.0)",
        at_once("ttsa(lr=0.05,lr_inner=0.0,lr_linear=0.5,K=4,decay=0.0)", ALTERNATE),
        "xy",
    ),
    ("vrbo(lr=0.05,lr_inner=0.5,K=3,T=4,period=7)", x_first("aid_neumann(lr=0.05,lr_inner=0.5,K=3,T=4)"), "xy"),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("text", "plain", "parts"), PLAIN, ids=[text for text, *_ in PLAIN])
def test_with_all_rows_it_is_the_plain_method(text, plain, parts, size):
    problem = finite_sum(quadratic(*size), n=5)
    expected = plain(problem, STEPS)
    for whole in (text, text.replace(")", ",batch=5)")):
        states = steps(whole, problem, STEPS)
        for state, point in zip(states, expected, strict=True):
            for part in parts:
                torch.testing.assert_close(getattr(state, part), getattr(point, part), **EXACT)
    assert float((states[-1].x - states[0].x).norm()) > 0.1
    few = steps(text.replace(")", ",batch=2)"), problem, 4)
    assert float((few[-1].x - states[4].x).norm()) > 1e-4  # with fewer rows it is not


# -- means over every minibatch


def soba(problem, s):
    """SOBA's directions (x, y, v) of all rows at a point, from the oracle."""
    o = Oracle(problem)
    fx, fy = o.df(s.x, s.y)
    cross, hessian = o.d2g(s.x, s.y, s.v)
    return fx + cross, o.dg_y(s.x, s.y), hessian + fy


def hypergradient(problem, x, y, eta, K):
    """df/dx - C q, q from K terms with all rows."""
    o = Oracle(problem)
    fx, fy = o.df(x, y)
    q = torch.zeros_like(fy)
    for _ in range(K):
        q = q - eta * (o.d2g_yy(x, y, q) - fy)
    return fx - o.d2g_xy(x, y, q)


@pytest.mark.parametrize(("n", "batch"), [(3, 1), (4, 2), (5, 2)])  # the last one: blocks of two, two and one
def test_saba_s_directions_are_unbiased_whatever_it_remembers(n, batch):
    problem = finite_sum(quadratic(), n=n)
    solver = make_solver(f"saba(lr=0.1,lr_inner=0.3,batch={batch})")
    state = run(solver, problem, 7)
    dx, dy, dv = soba(problem, state)
    for part, direction, lr in (("x", dx, 0.1), ("y", dy, 0.3), ("v", dv, 0.3)):
        found = mean(solver, problem, lambda s, p=part: getattr(s, p), state)
        torch.testing.assert_close(found, getattr(state, part) - lr * direction, **EXACT)
    other = make_solver(f"soba(lr=0.1,lr_inner=0.3,batch={batch})")
    same = start(other, problem, Oracle(problem))._replace(x=state.x, y=state.y, v=state.v)
    plain = mean(other, problem, lambda s: (s.x - state.x).norm(), same)
    assert float((plain / 0.1 - dx.norm()).abs()) > 1e-3  # single directions are off


@pytest.mark.parametrize(("n", "batch"), [(5, 1), (5, 2), (6, 3)])
def test_saba_remembers_what_each_block_answered_last(n, batch):
    problem = finite_sum(quadratic(), n=n)
    states = steps(f"saba(lr=0.1,lr_inner=0.3,batch={batch})", problem, 30)
    blocks = [torch.arange(first, min(first + batch, n)) for first in range(0, n, batch)]
    weights = [len(block) / n for block in blocks]
    o = Oracle(problem)
    drawn = set()
    for before, after in itertools.pairwise(states):
        for table, earlier, ask in (
            (after.of_f, before.of_f, lambda rows, s=before: o.df(s.x, s.y, rows)),
            (after.of_g, before.of_g, lambda rows, s=before: (*o.d2g(s.x, s.y, s.v, rows), o.dg_y(s.x, s.y, rows))),
        ):
            (changed,) = [i for i, old in enumerate(earlier.blocks) if table.blocks[i] is not old]
            torch.testing.assert_close(table.blocks[changed], tuple(ask(blocks[changed])), **EXACT)
            drawn.add((len(table.mean), changed))
            for q, kept in enumerate(table.mean):
                averaged = sum(w * block[q] for w, block in zip(weights, table.blocks, strict=True))
                torch.testing.assert_close(kept, averaged, **EXACT)
    assert drawn == {(quantities, i) for quantities in (2, 3) for i in range(len(blocks))}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["srba", "spaba"])
def test_recursive_directions_keep_their_error_in_the_mean(name, batch):
    """SARAH: E[d'] = d + (all rows here) - (all rows one step ago). PAGE: all rows with chance 1/period."""
    problem, period = finite_sum(quadratic(), n=3), 4
    solver = make_solver(f"{name}(lr=0.1,lr_inner=0.3,period={period},batch={batch})")
    states = steps(f"{name}(lr=0.1,lr_inner=0.3,period={period},batch={batch})", problem, 6)
    before, state = states[-2], states[-1]
    for part, now, then in zip("xyv", soba(problem, state), soba(problem, before), strict=True):
        kept = getattr(state.d, part)
        expected = kept + now - then
        if name == "spaba":
            expected = now / period + (1 - 1 / period) * expected
        found = mean(solver, problem, lambda s, p=part: getattr(s.d, p), state)
        torch.testing.assert_close(found, expected, **EXACT)
    assert any(float((a - b).norm()) > 1e-3 for a, b in zip(state.d, soba(problem, before), strict=True))  # it errs


@pytest.mark.parametrize("decay", [0.0, 1 / 3])
@pytest.mark.parametrize(("name", "batch"), [("mrbo", 1), ("mrbo", 2), ("sustain", 1), ("sustain", 2)])
def test_storm_on_both_levels_shrinks_its_errors_in_the_mean(name, batch, decay):
    """E[d'] = (all rows here) + (1 - eta_k) (d - (all rows one step ago)), eta_k = eta k^-2 decay; 1 at first."""
    problem, K, eta, k = finite_sum(quadratic(), n=3), 2, 0.4, 3
    text = f"{name}(lr=0.1,lr_inner=0.3,lr_linear=0.6,K={K},eta={eta},decay={decay},batch={batch})"
    states = steps(text, problem, k)
    for state, before, keep in ((states[0], states[0], 0.0), (states[-1], states[-2], 1 - eta * k ** (-2 * decay))):
        v, u = (state.v, state.u) if name == "mrbo" else (state.h_f, state.h_g)
        now, then = (hypergradient(problem, s.x, s.y, 0.6, K) for s in (state, before))
        here, there = (Oracle(problem).dg_y(s.x, s.y) for s in (state, before))
        found = mean(make_solver(text), problem, lambda s: torch.cat([*s[4:6]]), state)
        expected = torch.cat([now + keep * (v - then), here + keep * (u - there)])
        torch.testing.assert_close(found, expected, **EXACT)
    assert float((v - then).norm()) > 1e-3
    assert float((u - there).norm()) > 1e-3


def test_vrbo_s_estimates_keep_their_errors_in_the_mean():
    """Wherever its random inner steps lead to: E[d' - (all rows there)] = d - (all rows here)."""
    problem, K = finite_sum(quadratic(), n=2), 2
    text = f"vrbo(lr=0.1,lr_inner=0.3,lr_linear=0.6,T=1,K={K},period=5,batch=1)"
    state = steps(text, problem, 2)[-1]

    def errors(s):
        return torch.cat([s.v - hypergradient(problem, s.x, s.y, 0.6, K), s.u - Oracle(problem).dg_y(s.x, s.y)])

    torch.testing.assert_close(mean(make_solver(text), problem, errors, state), errors(state), **EXACT)
    assert float(errors(state).abs().min()) > 1e-6
    first = start(make_solver(text), problem, Oracle(problem))  # all rows: no error to keep
    assert float(mean(make_solver(text), problem, errors, first).abs().max()) < 1e-12


def test_f2sa_s_step_is_unbiased_on_quadratics():
    """Each of its six gradients has rows of its own, and the direction is affine in y and in z."""
    problem = finite_sum(quadratic(), n=2)
    knobs = "lr=0.1,lr_inner=0.3,T=1,lam=2.0,growth=0.5,decay=0.6,decay_inner=0.4"
    state = steps(f"f2sa({knobs},batch=1)", problem, 3)[-1]
    whole = once(f"f2sa({knobs})", problem, state, z=state.z, m=state.m)
    found = mean(make_solver(f"f2sa({knobs},batch=1)"), problem, lambda s: torch.cat([s.x, s.y, s.z]), state)
    torch.testing.assert_close(found, torch.cat([whole.x, whole.y, whole.z]), **EXACT)


def test_f3sa_s_six_estimates_shrink_their_errors_in_the_mean():
    problem, eta, c, k = finite_sum(quadratic(), n=2), 0.4, 0.3, 3
    text = f"f3sa(lr=0.1,lr_inner=0.3,lam=2.0,eta={eta},decay_inner={c},batch=1)"
    states = steps(text, problem, k)

    def errors(new, old):
        """Of the six, at the points they were taken at: y and z have moved before the last three."""
        o = Oracle(problem)
        at = (
            o.dg_y(old.x, old.z), o.df_y(old.x, old.y), o.dg_y(old.x, old.y),
            o.df_x(old.x, new.y), o.dg_x(old.x, new.y), o.dg_x(old.x, new.z),
        )  # fmt: skip
        return torch.cat([h - exact for h, exact in zip(new.h, at, strict=True)])

    for state, keep in ((states[0], 0.0), (states[-1], 1 - eta * k ** (-2 * c))):
        kept = errors(state, states[-2])
        found = mean(make_solver(text), problem, lambda s, old=state: errors(s, old), state)
        torch.testing.assert_close(found, keep * kept, **EXACT)
    assert float(kept.abs().min()) > 1e-6


# -- earlier iterates, periods, schedules


def test_old_iterates_are_earlier_iterates():
    """Not zero at the start, not the present point by another name; other code has had both."""
    problem = finite_sum(quadratic(), n=3)
    for text in ("mrbo(batch=1)", "sustain(batch=1)", "srba(batch=1)", "spaba(batch=1)", "f3sa(batch=1)"):
        states = steps(text, problem, 3)

        def old(s, text=text):
            return (s.old_x, s.old_y) if hasattr(s, "old_x") else (s.before if hasattr(s, "before") else s.old)[:2]

        assert all(torch.equal(a, b) for a, b in zip(old(states[0]), states[0][:2], strict=True))
        for before, after in itertools.pairwise(states):
            assert all(torch.equal(a, b) for a, b in zip(old(after), before[:2], strict=True))
            assert all(float((a - b).norm()) > 0 for a, b in zip(old(after), after[:2], strict=True))


@pytest.mark.parametrize(
    ("text", "kind", "usual"), [("srba(batch=1,period=3)", "d2g", 2), ("vrbo(batch=1,period=3,T=2)", "dg_y", 6)]
)
def test_full_passes_come_every_period_and_make_the_estimates_exact(text, kind, usual):
    """By the number of the step, which the state carries: a run that is resumed keeps the rhythm."""
    problem = finite_sum(quadratic(), n=4)
    states, solver, passes = steps(text, problem, 7), make_solver(text), []
    for k, (before, after) in enumerate(itertools.pairwise(states)):
        oracle = Oracle(problem)
        oracle.begin(k)
        again = solver.step(oracle, before)
        torch.testing.assert_close(again.x, after.x, rtol=1e-12, atol=1e-13)
        passes.append(oracle.rows[kind] > usual)
        if solver.name == "srba":
            off = max(float((a - b).norm()) for a, b in zip(after.d, soba(problem, before), strict=True))
            assert off < 1e-12 if passes[-1] else off > 1e-6
    assert passes == [True, False, False, True, False, False, True]


def test_spaba_s_coin_is_thrown_in_each_step():
    problem = finite_sum(quadratic(), n=4)
    full = []
    for before, after in itertools.pairwise(steps("spaba(batch=1,period=3)", problem, 60)):
        full.append(float((after.d.y - soba(problem, before)[1]).norm()) < 1e-12)
    assert full[0]
    assert 10 <= sum(full) <= 30  # of 60, 20 are expected
    assert len({tuple(full[k : k + 3]) for k in range(57)}) > 4  # no rhythm


def test_f2sa_follows_its_paper_s_schedules():
    """gamma_k = gamma (k + 1)^-c, lambda_k = lam (k + 1)^growth, alpha_k = gamma_k / lambda_k, x by (k + 1)^-a."""
    q, c, growth, a = quadratic(), 0.4, 0.2, 0.7
    states = steps(f"f2sa(lr=0.1,lr_inner=0.3,T=1,lam=2.0,growth={growth},decay={a},decay_inner={c})", q.problem, 4)
    o = Oracle(q.problem)
    for k, (s, new) in enumerate(itertools.pairwise(states)):
        gamma, lam = 0.3 * (k + 1) ** -c, 2.0 * (k + 1) ** growth
        torch.testing.assert_close(new.z, s.z - gamma * o.dg_y(s.x, s.z), **EXACT)
        torch.testing.assert_close(new.y, s.y - gamma / lam * (o.df_y(s.x, s.y) + lam * o.dg_y(s.x, s.y)), **EXACT)
        direction = o.df_x(s.x, new.y) + lam * (o.dg_x(s.x, new.y) - o.dg_x(s.x, new.z))
        torch.testing.assert_close(new.x, s.x - 0.1 * (k + 1) ** -a * direction, **EXACT)


# -- convergence on a finite sum, at constant steps


@pytest.fixture(scope="module")
def noisy():
    """Eight rows whose means are the quadratic, spread so that single rows mislead."""
    q = quadratic()
    return q, finite_sum(q, n=8, spread=0.4)


def test_variance_reduction_reaches_the_solution_where_soba_stalls(noisy):
    """At the same constant steps: a linear rate down to rounding against a floor of noise."""
    q, problem = noisy
    distance = {}
    for name in ("soba", "saba", "srba", "spaba"):
        period = ",period=8" if name in ("srba", "spaba") else ""
        states = steps(f"{name}(lr=0.1,lr_inner=0.3,batch=1{period})", problem, 480)
        distance[name] = [float((s.x - q.x_star).norm()) for s in states[::120]]
    assert min(distance["soba"]) > 1e-2, distance
    for name in ("saba", "srba", "spaba"):
        assert distance[name][-1] < 1e-9, distance
        assert distance[name][2] < 1e-4 * distance[name][0], distance
        assert distance[name][4] < 1e-4 * distance[name][2], distance


def errors_and_distances(text, q, problem, n):
    """Along a run: the error of the estimate that moved x, and the distance from the limit with all rows."""
    solver, errors, distances = make_solver(text), [], []
    limit = limits.penalised(q, q.A, 3.0) if solver.name == "f3sa" else limits.W(q, q.truncated(0.3, 3))
    for before, after in itertools.pairwise(steps(text, problem, n)):
        if solver.name == "f3sa":
            o, (f_x, g_xy, g_xz) = Oracle(problem), after.h[3:]
            used = f_x + 3.0 * (g_xy - g_xz)
            exact = o.df_x(before.x, after.y) + 3.0 * (o.dg_x(before.x, after.y) - o.dg_x(before.x, after.z))
        else:
            used = (before.x - after.x) / solver.lr
            exact = hypergradient(problem, before.x, before.y, 0.3, 3)
        errors.append(float((used - exact).norm()))
        distances.append(float((after.x - limit).norm()))
    return torch.tensor(errors), torch.tensor(distances)


@pytest.mark.parametrize("name", ["mrbo", "sustain", "f3sa"])
def test_momentum_lowers_the_noise_and_the_solver_gets_near(name, noisy):
    knobs = "lr=0.03,lr_inner=0.3,batch=1" + (",lam=3.0" if name == "f3sa" else ",K=3")
    plain, far = errors_and_distances(f"{name}({knobs},eta=1.0)", *noisy, 200)
    lower, near = errors_and_distances(f"{name}({knobs},eta=0.1)", *noisy, 200)
    assert float(lower[100:].mean()) < 0.5 * float(plain[100:].mean())
    assert float(near[100:].mean()) < float(far[100:].mean())
    assert float(near[100:].mean()) < 0.2 * float(near[0])


def test_vrbo_lowers_the_noise_and_gets_near(noisy):
    q, problem = noisy
    knobs = "lr=0.03,lr_inner=0.3,K=3,batch=1"
    plain, _ = errors_and_distances(f"mrbo({knobs},eta=1.0)", q, problem, 60)
    lower, near = errors_and_distances(f"vrbo({knobs},T=2,period=10)", q, problem, 120)
    assert float(lower[30:].mean()) < 0.5 * float(plain[30:].mean())
    assert float(near[80:].mean()) < 0.1 * float(near[0])


# -- memory


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_saba_s_table_is_of_order_n_over_batch(batch):
    """3 vectors of y and 2 of x for each block; measured with as many variables of x as of y, and with few."""
    for n_x, vectors in ((2, 3.0), (4096, 5.0)):
        small, large = (copies(f"saba(batch={batch})", n=n, n_x=n_x) for n in (8, 24))
        assert (large - small) / 16 == pytest.approx(vectors / batch, rel=0.01)


@pytest.mark.parametrize(
    "text", ["saba", "srba(batch=1)", "spaba(batch=1)", "mrbo(batch=1)", "vrbo(batch=1)", "f3sa(batch=1)"]
)
def test_the_others_hold_nothing_for_a_row(text):
    assert copies(text, n=24) == copies(text, n=4)
