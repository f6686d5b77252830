"""The judge: right in any units and from any start, or it says what it could not do."""

import dataclasses
import itertools
import math
import re
from types import SimpleNamespace

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevelbench import Draw, Problem, build_problem
from bilevelbench.contract.judging import phi_is_judged
from bilevelbench.core import derive
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure import lower
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.gap import gap
from bilevelbench.measure.inverse import NOT_FINITE
from bilevelbench.measure.judge import KEPT, Judge
from bilevelbench.measure.level import Level
from bilevelbench.measure.lower import Found
from bilevelbench.measure.plan import EACH, NEVER, Plan, planned
from bilevelbench.measure.trace import trace
from bilevelbench.progress import KERNEL, Lines, Terminal, shown

from .campaigns.units import FIGURES, Cell, errors


def ten(low, high):
    return st.floats(low, high).map(lambda power: 10.0**power)


cells = st.builds(
    Cell, kappa=ten(0, 4), f=ten(-12, 12), g=ten(-12, 12), x=ten(-6, 6), y=ten(-6, 6),
    start=ten(0, 9) | ten(-3, 3).map(lambda away: -away), dtype=st.sampled_from([torch.float32, torch.float64]),
    bent=st.booleans(), matrix=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip


@settings(max_examples=40)
@given(cell=cells)
def test_figures_have_no_units(cell):
    """Against 70-digit arithmetic; the campaign ``units`` has the whole grid."""
    for name, error in errors(cell).items():
        assert error is not None, f"{name} is marked"
        assert error <= 1e-8, name


@settings(max_examples=10)
@given(cell=cells, kappa=ten(4, 8))
def test_ill_conditioned_figures_are_as_good_as_the_condition_allows_or_marked(cell, kappa):
    cell = cell._replace(kappa=kappa)
    for error in errors(cell).values():
        assert error is None or error <= cell.allowed


@settings(max_examples=10)
@given(scale=ten(-12, 12), unit=ten(-6, 6))
def test_stationarity_less_its_gap_has_no_units(scale, unit):
    """lambda* grad q does not know g's factor; with one unit for x and y, either."""
    p = build_problem("quadratic(d=5)", Draw(0))
    other = dataclasses.replace(
        p, g=lambda x, y: scale * p.g(x / unit, y / unit), f=lambda x, y: unit * p.f(x / unit, y / unit),
        x0=unit * p.x0, y0=unit * p.y0, y_star=None,
    )  # fmt: skip
    bare = []
    for problem in (p, other):
        found = Judge(problem)(problem.x0, problem.y0 + 1e-5 * problem.y0.norm())
        bare.append(found["stationarity"] - found["gap"])
    assert abs(bare[1] - bare[0]) <= 1e-6 * abs(bare[0]) + 1e-12 * scale


def level_of(g, n=2, **fields):
    fields = {"x0": torch.ones(1).double(), "y0": torch.ones(n).double()} | fields
    return Problem(f=fields.pop("f", lambda x, y: (y - 3).square().sum() + x.square().sum()), g=g, **fields)


def judged(problem):
    judge = Judge(problem)
    return judge(problem.x0, problem.y0), judge.unjudged


@pytest.mark.parametrize(
    ("g", "start", "words"),
    [
        (lambda x, y: (y**4 / 4 - y**2 / 2).sum(), 0.0, "negative curvature"),  # a maximum
        (lambda x, y: y[0] ** 2 - y[1] ** 2 + y[1] ** 4 / 100, 0.0, "negative curvature"),  # a saddle
        (lambda x, y: torch.exp(-y).sum(), 1.0, "may have no minimum|valley"),
        (lambda x, y: (y[0] - x[0] * y[1]).square(), 1.0, "a valley of minimisers along which f changes"),
        (lambda x, y: torch.where(y.sum() > 1, y.square().sum() * math.nan, -y.sum()), 0.1, "finite|lowers g"),
    ],
)  # fmt: skip
def test_what_has_no_minimum_or_too_many_is_not_judged_and_the_reason_is_said(g, start, words):
    found, why = judged(level_of(g, y0=torch.full((2,), start).double()))
    assert "phi" not in found
    assert "gap" not in found
    assert "f" in found
    assert re.search(words, why), why


def test_a_valley_along_which_f_does_not_change_is_judged():
    found, why = judged(level_of(lambda x, y: (y[0] - x[0]).square(), f=lambda x, y: (y[0] - 3).square()))
    assert not why
    assert found["phi"] == pytest.approx(4.0, rel=1e-12)
    assert found["grad_phi"] == pytest.approx(4.0, rel=1e-9)
    slanted = lambda x, y: y[0] + 3 * y[1]  # noqa: E731
    g, f = lambda x, y: (slanted(x, y) - x[0]).square(), lambda x, y: (slanted(x, y) - 3).square()
    found, why = judged(level_of(g, f=f, y0=torch.tensor([1e3, 7.0]).double()))
    assert not why
    assert found["phi"] == pytest.approx(4.0, rel=1e-10)


def test_of_several_minimisers_the_one_below_the_start_is_meant():
    wells = lambda x, y: (y**2 - x**2).square().sum()  # noqa: E731
    for side in (-1.0, 1.0):
        found, why = judged(
            level_of(wells, x0=torch.full((1,), 2.0).double(), y0=torch.full((2,), 1.5 * side).double())
        )
        assert not why
        assert found["phi"] == pytest.approx(2 * (2 * side - 3) ** 2 + 4, rel=1e-9)


def at_nought():
    """g's whose minimiser is 0, and known to rounding only: how a processor rounds decides what is found."""
    A = torch.tensor([[3.0, 1.0, 2.0], [1.0, 7.0, 3.0]]).double().T
    for b in (torch.tensor([1.0, 1.0, -2.0]).double(), *Draw(0).normal(9, 3)):
        off = b - A @ torch.linalg.lstsq(A, b).solution  # orthogonal to all that A y can be
        for scale in (1e-9, 1.0, 1e9):
            yield lambda x, y, s=scale, b=off: s * (A @ y - 1e6 * b).square().sum()


def test_a_minimiser_at_nought_known_to_rounding_only_is_judged():
    """Its own length says nothing there: what the error does to phi does, and to its slope."""
    for g in at_nought():
        found, why = judged(level_of(g))
        assert not why
        assert found["phi"] == pytest.approx(19.0, rel=1e-8)
        assert found["grad_phi"] == pytest.approx(2.0, rel=1e-6)


def test_what_the_error_of_a_minimiser_at_nought_changes_is_not_judged():
    """f's slope in x hangs on digits of y* that nobody has, though f itself does not."""
    for g in at_nought():
        found, why = judged(level_of(g, f=lambda x, y: (x - 1e11 * y[0]).square().sum() / 1e4 + 19))
        if found.get("lower_error"):  # g's gradient may round to 0 at once
            assert why
            assert "grad_phi" not in found


@pytest.mark.parametrize("of_g", [True, False])
def test_no_direction_is_spared_when_it_is_asked_what_an_error_changes(of_g):
    """Of a slope in x that goes with one entry of y, and of a product that does, ten times the change is stated."""
    steep = lambda x, y: 1e6 * (x[0] + 1) * y[1] ** (3 if of_g else 1)  # noqa: E731
    p = level_of(lambda x, y: y.square().sum() + of_g * steep(x, y), f=lambda x, y: (1 - of_g) * steep(x, y) + x[0])
    level, y, q = Level(p.g, p.x0), torch.zeros(2).double(), torch.ones(2).double()
    found = Found(y, 1e-9, None, None, y, "")
    away = Judge(p)._away(level, found, derive.grad_x(p.f, p.x0, y), q, level.cross(y, q))
    assert away == pytest.approx(10 * (3e6 * 1e-18 if of_g else 1e6 * 1e-9), rel=1e-6)


def test_where_a_second_derivative_is_not_finite_differences_of_gradients_take_its_place():
    """As that of ``torch.logaddexp``, which is an infinity times 0 far from 0."""
    g = lambda x, y: torch.logaddexp(y, -y).sum() + 0.5 * (y - 2e3 * x).square().sum()  # noqa: E731
    found, why = judged(level_of(g))
    assert not why
    assert found["phi"] == pytest.approx(2 * (1999.0 - 3) ** 2 + 1, rel=1e-8)
    assert found["grad_phi"] == pytest.approx(2 * 2 * 1996 * 2e3 + 2, rel=1e-6)


@settings(max_examples=10)
@given(unit=ten(-6, 6), seed=st.integers(0, 99))
def test_bounds_below_are_kept_in_any_units(unit, seed):
    closed = build_problem("box_quadratic(d=6)", Draw(seed))
    low, high = (closed.project_y(torch.full_like(closed.y0, sign * math.inf)) for sign in (-1, 1))
    open_ = dataclasses.replace(
        closed, f=lambda x, y: closed.f(x, y / unit), g=lambda x, y: closed.g(x, y / unit), y0=unit * closed.y0,
        y_star=None, project_y=lambda y: torch.minimum(torch.maximum(y, unit * low), unit * high),
    )  # fmt: skip
    exact, found = (Judge(p)(p.x0, p.y0) for p in (closed, open_))
    for name in FIGURES:
        assert found[name] == pytest.approx(exact[name], rel=1e-8), name


@given(away=ten(-12, 0), seed=st.integers(0, 99))
def test_the_gap_near_y_star_keeps_its_digits(away, seed):
    """Half d'Ad at y* + d, beside a constant of g that would swallow it, up to what rounds in y* + d itself."""
    p = build_problem("quadratic(d=5)", Draw(seed))
    best = torch.zeros(5).double()
    d = away * Draw(seed + 1).normal(5)
    A = torch.autograd.functional.hessian(lambda y: p.g(0 * p.x0, y), best)
    found = gap(lambda x, y: p.g(x, y) + 1e6, 0 * p.x0, best + d, best)
    assert found == pytest.approx(float(d @ A @ d) / 2, rel=1e-9)


def test_the_gap_of_what_is_no_quadratic_is_the_better_of_two_forms():
    g = lambda x, y: torch.cosh(y).sum() + x.sum()  # noqa: E731
    x, best = torch.full((1,), 1e3).double(), torch.zeros(1).double()
    for away in (1e-7, 1e-3, 0.1, 3.0, 30.0):
        exact = float(2 * mpmath.sinh(mpmath.mpf(away) / 2) ** 2)
        assert gap(g, x, best + away, best) == pytest.approx(exact, rel=1e-9)


def test_what_may_be_asked_is_kept_to():
    p = dataclasses.replace(build_problem("quadratic(kappa=1e4)", Draw(0)), y_star=None)
    asked = []

    def g(x, y):
        asked.append(1)
        return p.g(x, y)

    level = Level(g, p.x0, allowance=9)
    found = lower.solve(level, p.y0)
    assert "had 9 gradients" in found.why
    assert len(asked) <= 9
    assert lower.solve(Level(g, p.x0), p.y0).why == ""


def test_a_stalled_method_is_followed_by_another(monkeypatch):
    """Planted: Newton's method that gives up at once, the first time; L-BFGS goes on, and Newton's method ends it."""
    p = dataclasses.replace(build_problem("quadratic(kappa=100)", Draw(0)), y_star=None)
    newton, calls = lower._newton, []

    def lame(level, begin, dense, factor):
        calls.append(begin.y)
        return begin._replace(why=lower.STALLED) if len(calls) == 1 else newton(level, begin, dense)

    monkeypatch.setattr(lower, "_newton", lame)
    found, why = judged(p)
    assert not why
    assert len(calls) == 2
    assert float((calls[1] - p.y0).norm()) > 0.1
    assert found["phi"] == pytest.approx(Judge(build_problem("quadratic(kappa=100)", Draw(0)))(p.x0, p.y0)["phi"])


def test_what_may_be_off_in_the_digits_shown_is_left_out(monkeypatch):
    """Planted: a solution that is off by a thousandth, and says so."""
    p = dataclasses.replace(build_problem("quadratic", Draw(0)), y_star=None)
    solve = lower.solve

    def lame(level, start, convex, factor):
        found = solve(level, start, convex)
        return found._replace(y=1.001 * found.y, error=0.001 * float(found.y.norm()))

    monkeypatch.setattr("bilevelbench.measure.judge.solve", lame)
    found, why = judged(p)
    assert "phi" not in found
    assert "may be off by" in why
    assert found["phi_error"] > 0
    assert NOT_FINITE not in why


# -- the plan


def test_a_plan_goes_by_problem_and_budget_alone():
    closed, solved = build_problem("quadratic", Draw(0)), build_problem("fair", Draw(0))
    assert planned(closed, Budget(steps=5)).words == "phi at every look, y* in closed form"
    assert planned(solved, Budget(steps=5)) == planned(solved, Budget(calls=9)) == Plan()
    network = dataclasses.replace(solved, flags=frozenset({"nonconvex"}))
    plan = planned(network, Budget(calls=50_000))
    assert plan.sparse
    assert plan.gradients == 50_000
    assert "the problem's own figures at every look" in plan.words
    assert planned(network, Budget(steps=10)).gradients > 4 * 10  # its rows are few: it may ask more
    assert not planned(dataclasses.replace(network, phi_at="every look"), Budget(steps=5)).sparse
    asked_for = planned(dataclasses.replace(solved, phi_at="doublings"), Budget(steps=5))
    assert asked_for.sparse
    assert asked_for.gradients == EACH  # the problem is about Phi: more than solving takes
    with pytest.raises(ValueError, match="phi_at='often' is not valid; it is 'every look', 'doublings' or 'never'"):
        dataclasses.replace(solved, phi_at="often")


def test_a_problem_may_say_that_its_y_star_is_not_to_be_had():
    figures = dataclasses.replace(
        build_problem("fair", Draw(0)), phi_at="never", metrics=lambda x, y: {"own": float(y.norm())}
    )
    judge = Judge(figures, planned(figures, Budget(steps=9)))
    assert set(judge(figures.x0, figures.y0)) == {"f", "own"}
    assert judge.unjudged == f"phi is not judged: {NEVER}"
    with pytest.raises(ValueError, match="leaves nothing to judge a run by: the problem needs metrics"):
        dataclasses.replace(figures, metrics=None)


@given(gradients=st.integers(1, 10**6), looks=st.integers(1, 30), spent=st.lists(st.floats(0, 1), max_size=40))
def test_a_sparse_plan_never_asks_more_than_it_states(gradients, looks, spent):
    plan, asked = Plan(True, gradients, looks), 0.0
    for judged_, share in enumerate(spent):
        allowance = plan.allowance(judged_, asked)
        assert allowance >= 0
        asked += share * allowance
    assert asked <= gradients * (1 + 1e-9)
    assert plan.allowance(looks, 0.0) == pytest.approx(gradients)


def looks_of(steps, solver="first_order(T=2)", **fields):
    """The rows of a run on a small network below, judged as planned."""
    problem = dataclasses.replace(build_problem("quadratic(d=4)", Draw(0)), y_star=None, phi_star=None, **fields)
    budget = Budget(steps=steps)
    judge = Judge(problem, planned(problem, budget))
    return list(trace(problem, make_solver(solver), 0, budget, judge, Stopwatch(lambda: None), False))


def test_phi_is_judged_at_the_start_at_doublings_and_at_the_end():
    rows = looks_of(25, flags=frozenset({"nonconvex"}), metrics=lambda x, y: {"own": 1.0})
    assert [row.step for row in rows if "phi" in row.metrics] == [0, 1, 2, 4, 8, 17, 25]
    assert all(row.metrics["own"] == 1.0 and "f" in row.metrics for row in rows)
    assert all("phi" in row.metrics for row in looks_of(25))
    assert all("phi" in row.metrics for row in looks_of(25, phi_at="every look", flags=frozenset({"nonconvex"})))


def test_a_look_near_the_last_one_is_cheap_once_a_hessian_is_known():
    """Some 300 variables, too many for a matrix at each step, and a Hessian whose products alone converge slowly."""
    n = 300
    curvature = torch.logspace(-3, 0, n, dtype=torch.float64)
    x0, y0 = torch.linspace(0.5, 1.5, 4, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)

    def g(x, y, rows=None):
        return 0.5 * (curvature * (y - x.sum()) ** 2).sum() + 0.1 * curvature @ torch.cos(y)

    problem = Problem(
        f=lambda x, y, rows=None: (y**2).mean() + (x**2).sum(), g=g, x0=x0, y0=y0, flags=frozenset({"strongly_convex"})
    )
    judge, fresh, asked = Judge(problem), [], []
    for k in range(4):
        x = x0 * (1 + 0.01 * k)
        before = judge._asked
        found = judge(x, y0, k)
        asked.append(judge._asked - before)
        fresh.append(Judge(problem)(x, y0))
        for name in ("phi", "grad_phi"):
            off = found[f"{name}_error"] + fresh[-1][f"{name}_error"]
            assert abs(found[name] - fresh[-1][name]) <= off + 1e-12 * abs(found[name])
    assert max(asked[1:]) < asked[0] / 5


def test_what_is_judged_does_not_hang_on_the_solver_or_its_speed():
    one, other = (looks_of(20, solver, flags=frozenset({"nonconvex"})) for solver in ("first_order(T=2)", "bome(T=30)"))

    def judged(rows):
        return [(row.step, {name for name in row.metrics if not name.startswith("state.")}) for row in rows]

    assert judged(one) == judged(other)


def test_a_look_beyond_the_plan_is_not_available_and_says_so(monkeypatch):
    monkeypatch.setattr("bilevelbench.measure.plan.FEW", 6)
    monkeypatch.setattr("bilevelbench.measure.plan.MANY", 6)
    (first, *_) = looks_of(1, flags=frozenset({"nonconvex"}))
    assert "phi" not in first.metrics
    assert re.fullmatch(r"the re-solve of the lower level had 2 gradients and needs more", first.unjudged)


def test_where_the_start_takes_too_much_the_rest_is_kept_for_the_last_look(monkeypatch):
    """A share of 15 does not do for y* at the start; the 30 that are left do at the end, from where the start came."""
    for name in ("FEW", "MANY"):
        monkeypatch.setattr(f"bilevelbench.measure.plan.{name}", 45)
    one, other = (looks_of(10, solver, flags=frozenset({"nonconvex"})) for solver in ("first_order(T=2)", "bome(T=9)"))
    for rows in (one, other):
        assert "had 15 gradients and needs more" in rows[0].unjudged
        assert {row.unjudged for row in rows[1:-1]} == {KEPT}
        assert all("phi" not in row.metrics for row in rows[:-1])
        assert "phi" in rows[-1].metrics


def test_judging_is_shown_after_a_while(capsys, monkeypatch):
    job = SimpleNamespace(words="p s seed 0")
    progress, now = Lines(2), [0.0]
    monkeypatch.setattr("bilevelbench.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    for second, phase in ((0, "judge"), (20, "steps"), (25, "judge"), (50, "judge"), (56, "judge"), (60, "judge")):
        now[0] = float(second)
        progress.phase(job, phase)
    assert capsys.readouterr().err == "[0/2] p s seed 0: judging\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "fair",
            r"phi to \de-1\d and grad_phi to \de-1\d, relative; y\* is the one minimiser; planned is phi at every",
        ),
        ("quadratic", r"phi at every look, y\* in closed form"),
        ("architecture", r"a local minimiser; that none is lower is not certified|n/a near the start"),
    ],
)
def test_check_says_how_well_phi_is_judged(text, words):
    assert re.search(words, phi_is_judged(text))


@pytest.mark.parametrize(("where", "kind"), [({}, Terminal), ({KERNEL: "1"}, Lines)])
def test_a_command_in_a_notebook_s_cell_shows_lines_and_no_bar(where, kind, monkeypatch):
    """IPython gives it a terminal and FORCE_COLOR, but each drawing of a bar would stay."""
    monkeypatch.delenv(KERNEL, raising=False)
    for name, value in ({"FORCE_COLOR": "1"} | where).items():
        monkeypatch.setenv(name, value)
    assert type(shown(2)) is kind


@pytest.mark.parametrize("slack", [0.0, 400.0])
def test_looks_that_follow_each_other_share_the_factor_of_a_hessian(monkeypatch, slack):
    """Of y of 650 entries, on the digits: the same figures, within what is stated, for a quarter of the gradients.
    Where the first look has none left for it, the factor waits for the next one."""
    p = build_problem("hyper_cleaning", Draw(0))
    ways = torch.Generator().manual_seed(0)
    points = [(p.x0, p.y0)]
    for _ in range(6):
        dx, dy = (torch.randn(point.shape, generator=ways).double() for point in points[-1])
        points.append((points[-1][0] + dx, points[-1][1] + 0.1 * dy))

    def seen():
        judge, asked = Judge(p), [0.0]
        judge.plan = dataclasses.replace(judge.plan, gradients=int(slack) or EACH)
        found = []
        for k, (x, y) in enumerate(points):
            found.append(judge(x, y, k, False))
            judge.plan = dataclasses.replace(judge.plan, gradients=EACH)
            asked.append(judge._asked)
        return found, [after - before for before, after in itertools.pairwise(asked)]

    with_, few = seen()
    monkeypatch.setattr(lower, "MOST_SHORT", 0)
    without, many = seen()
    assert few[bool(slack)] == pytest.approx(many[bool(slack)] + 326, abs=20)  # the matrix, 650 halves, and its graph
    assert sum(few[2:]) < sum(many[2:]) / 4
    for one, other in zip(with_, without, strict=True):
        for name, off in (("phi", "phi_error"), ("grad_phi", "grad_phi_error")):
            assert abs(one[name] - other[name]) <= one[off] + other[off]


class Slope(torch.autograd.Function):
    """The gradient of sum y^3, whose derivative looks at a number, and so cannot be had in batches."""

    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return 3 * y * y

    @staticmethod
    def backward(ctx, v):
        return 6 * ctx.saved_tensors[0] * v if float(v.sum()) else torch.zeros_like(v)


class Cubes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return (y**3).sum()

    @staticmethod
    def backward(ctx, along):
        return Slope.apply(ctx.saved_tensors[0]) * along


@pytest.mark.parametrize(("allowance", "made", "asked"), [(1000, True, 283), (150, False, 150)])
def test_a_factor_that_takes_more_than_there_is_left_is_done_without(allowance, made, asked):
    """Products that cannot be batched are asked for one by one, after a batch in vain: 1 + 32 + 250."""
    y = torch.ones(250).double()
    level = Level(lambda x, y: Cubes.apply(y), torch.zeros(1).double(), allowance=allowance)
    after = lower.Nearby(None, 100.0).after(level, Found(y, 0.0, None, None, y, ""))
    assert (after.factor is not None) == made
    assert (after.asked, level.asked) == (0, asked)
