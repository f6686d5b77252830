"""The search for references: what it finds, how it is asked for, and what it refuses."""

import dataclasses
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bilevelbench as bb
from bilevelbench import Draw, Problem, RequestError, box, build_problem
from bilevelbench.cli import main
from bilevelbench.core.registry import PROBLEMS
from bilevelbench.core.resolve import resolve
from bilevelbench.measure.phi import Phi, Stuck
from bilevelbench.measure.plan import FIGURES
from bilevelbench.measure.reference import search
from bilevelbench.run import child
from bilevelbench.run.suite import load_suite
from bilevelbench.store import references
from tests.campaigns.references import BUDGETS, merged
from tests.forked import Forks
from tests.test_references import reference

CERTIFIED = {  # whose least Phi is known, to which relative error it is found
    "quadratic": 1e-9, "logistic": 1e-9, "fair": 1e-7, "ridge": 1e-6, "saddle": 1e-9, "darts_toy": 1e-9, "policy": 1e-6,
    "box_quadratic": None, "sine": None,  # kinks of Phi, basins of y: a bound alone
}  # fmt: skip


@pytest.mark.parametrize(("flag", "convex"), [("strongly_convex", True), ("convex", True), ("nonconvex", False)])
def test_a_re_solve_knows_from_either_flag_that_a_minimiser_is_the_one(flag, convex):
    problem = Problem(lambda x, y: x @ y, lambda x, y: y @ y, torch.ones(2), torch.ones(2), flags=frozenset({flag}))
    assert Phi(problem, 10, lambda spent, least: None).convex is convex


def unknown(text, seed=0):
    """A problem without what is known of its least Phi."""
    return dataclasses.replace(build_problem(text, Draw(seed)), phi_star=None)


@pytest.mark.parametrize("text", CERTIFIED)
def test_a_search_finds_what_is_certified(text):
    known = build_problem(text, Draw(0)).phi_star
    best = search(unknown(text), starts=4, budget=4000)
    assert best.phi >= known - best.phi_error - 1e-9 * abs(known)
    if CERTIFIED[text] is not None:
        assert best.phi == pytest.approx(known, rel=CERTIFIED[text], abs=1e-12)


def lower(x):
    """A problem whose y* is solved for: strongly convex, no quadratic, with Phi in both variables of x."""
    return lambda x, y, rows=None: (torch.cosh(y - x.sum()) + (y - x[0]) ** 2).sum()


def solved(**changes):
    made = Problem(
        f=lambda x, y, rows=None: ((y - 1) ** 2).sum() + 0.1 * (x**2).sum() + (x[1] - 0.5) ** 4,
        g=lower(None), x0=torch.tensor([0.3, -0.2], dtype=torch.float64), y0=torch.zeros(3, dtype=torch.float64),
        flags=frozenset({"strongly_convex"}),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


@settings(max_examples=20)
@given(x=st.lists(st.floats(-2, 2), min_size=2, max_size=2))
def test_the_hypergradient_is_the_slope_of_phi(x):
    point, phi = torch.tensor(x, dtype=torch.float64), Phi(solved(), 10_000, lambda *_: None)
    here = phi.at(point, torch.zeros(3, dtype=torch.float64), False, 10_000)
    for k in range(2):
        step = 1e-5 * torch.eye(2, dtype=torch.float64)[k]
        ahead, behind = (phi.at(point + sign * step, here.y, True, 10_000).phi for sign in (1, -1))
        assert (ahead - behind) / 2e-5 == pytest.approx(float(here.slope[k]), rel=1e-5, abs=1e-6)


@settings(max_examples=12)
@given(exponents=st.tuples(*[st.integers(-8, 8)] * 4))
def test_a_search_has_no_units(exponents):
    """f, g, x and y in other units: the same Phi, in the units of f."""
    f, g, x, y = (10.0**k for k in exponents)
    plain = solved()
    other = solved(
        f=lambda a, b, rows=None: f * plain.f(a / x, b / y), g=lambda a, b, rows=None: g * plain.g(a / x, b / y),
        x0=x * plain.x0, y0=y * plain.y0,
    )  # fmt: skip
    assert search(other, 2, 2000).phi == pytest.approx(f * search(plain, 2, 2000).phi, rel=1e-9)


@settings(max_examples=8)
@given(low=st.floats(-1, 0.2), width=st.floats(0.01, 1))
def test_bounds_are_kept_and_what_they_hold_is_no_gradient(low, width):
    best = search(solved(project_x=box(low, low + width)), 3, 3000)
    assert bool(((best.x >= low) & (best.x <= low + width)).all())
    assert best.ended == "settled"
    assert best.grad_phi < 1e-6
    grid = torch.cartesian_prod(*[torch.linspace(low, low + width, 9, dtype=torch.float64)] * 2)
    phi = Phi(solved(), 100_000, lambda *_: None)
    least = min(phi.at(x, best.y, True, 100_000).phi for x in grid)
    assert best.phi <= least + 1e-9


@pytest.mark.parametrize("budget", [70, 200, 1000])
def test_a_budget_is_kept_and_said(budget):
    told = []
    best = search(unknown("once"), 3, 2 * budget, tell=lambda spent, least: told.append((spent, least)))
    assert best.gradients <= 2 * budget
    assert best.ended == "budget"
    assert [spent for spent, _ in told] == sorted(spent for spent, _ in told)
    assert best.phi == pytest.approx(min(least for _, least in told), rel=1e-9)


REFUSED = {
    "h_f": (solved(h_f=lambda x, y: x), 1000, "constraints above"),
    "budget": (solved(), 5, "a budget of 5 gradients of g does not do for y* at the start; give it a larger one"),
    "no minimum": (
        solved(g=lambda x, y, rows=None: (y * x[0]).sum(), flags=frozenset({"convex"})), 1000, "cannot be judged",
    ),
    "not finite": (solved(f=lambda x, y, rows=None: torch.log(x).sum() + y.sum()), 1000, "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_had_is_one_sentence(kind):
    problem, budget, words = REFUSED[kind]
    with pytest.raises(RequestError, match=words.replace("*", r"\*")) as refused:
        search(problem, 2, budget)
    assert "\n" not in str(refused.value)


def test_a_search_goes_on_from_the_best_where_a_step_has_no_answer():
    """Beyond x = 1 the lower level has no minimum; the least Phi before it is at the wall's side, 0.9."""
    walled = solved(
        f=lambda x, y, rows=None: ((x - 0.9) ** 2).sum() * 100 + 0 * y.sum(),
        g=lambda x, y, rows=None: (torch.sqrt(1 - x.sum() / 2) * y**2).sum(),
    )
    with pytest.raises(Stuck):
        Phi(walled, 1000, lambda *_: None).at(torch.ones(2, dtype=torch.float64) * 2, walled.y0, True, 1000)
    assert search(walled, 2, 3000).phi == pytest.approx(0, abs=1e-12)


GOOD = {
    "coreset_kernel": ["itd(lr_inner=2.0,lr=30.0,T=10)", "aid_cg(lr_inner=2.0,lr=30.0,T=5,K=10)"],
    "once": ["bome(lr_inner=0.5,lr=0.1,T=10,lr_y=0.5)", "f2sa(lr_inner=0.5,lr=1.0,T=5,lam=30.0)"],
}


@pytest.mark.parametrize("text", GOOD)
def test_no_solver_of_a_short_run_is_below_a_shipped_reference(text):
    (entry, spec) = resolve(PROBLEMS, text)
    key = str(spec), entry.version, 0
    (shipped,) = [one for one in references.shipped() if (one.problem, one.version, one.seed) == key]
    reached = [bb.solve(text, solver, steps=60, judge=True).history["phi"].min() for solver in GOOD[text]]
    assert shipped.phi <= min(reached) + shipped.phi_error
    start = bb.solve(text, GOOD[text][0], steps=1, judge=True).history["phi"].iloc[0]
    assert min(reached) < start  # they do come down, so that the bound is one


def test_every_problem_of_a_suite_has_a_reference_or_phi_star():
    """For the seeds of the suite. What is missing here is searched for by `python -m tests.campaigns.references`."""
    known = {(one.problem, one.version, one.seed) for one in references.shipped()}
    asked = {
        (text, seed)
        for b in load_suite("everything").blocks
        for text in b.problems
        for seed in b.seeds
        if b.judge != FIGURES
    }
    assert {text for text, _ in asked if text in BUDGETS} == {t for t in BUDGETS if any(t == text for text, _ in asked)}
    for text, seed in sorted(asked):
        entry, spec = resolve(PROBLEMS, text)
        if text in BUDGETS:
            assert (str(spec), entry.version, seed) in known, f"{text} at seed {seed} has no reference"
        elif seed == 0 and entry.name not in ("svm",):
            made = build_problem(text, Draw(seed))
            assert made.phi_star is not None or made.stream or made.phi_at == "never", (
                f"{text} has neither; add it to BUDGETS"
            )


def test_of_two_searches_the_better_is_kept():
    old = [reference("a", 0.5), reference("b", 0.5)]
    assert merged(old, reference("a", 0.6)) == old
    assert merged(old, reference("a", 0.4))[0].phi == 0.4
    assert merged(old, reference("a", 0.6, version=2))[0].phi == 0.6
    assert [one.seed for one in merged(old, reference("a", 0.6, seed=3))] == [0, 3, 0]


LOOSE = """
import os, torch
from bilevelbench import Problem, problem

@problem("mine")
def mine(rng, at: float = 1.0, known: bool = False, crash: bool = False):
    '''A problem.'''
    if crash:
        raise OSError("no more")
    return Problem(
        f=lambda x, y, rows=None: ((y - at) ** 2).sum() + (x ** 2).sum(),
        g=lambda x, y, rows=None: ((y - x) ** 2).sum(), x0=torch.ones(2).double(), y0=torch.zeros(2).double(),
        flags=frozenset({"strongly_convex"}), seeded=False, phi_star=0.0 if known else None, phi_star_source="said",
    )
"""


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """`bilevelbench reference` in this process, which has a loose file: (exit code, stdout, stderr)."""
    (tmp_path / "mine.py").write_text(LOOSE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "processes", Forks)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["bilevelbench", "reference", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code, *capfd.readouterr())

    return command


def test_the_command_makes_one_for_a_loose_file_with_knobs_and_keeps_it(here, tmp_path):
    code, out, _ = here("mine.py(at=2.0)", "--budget", "300", "--seeds", "0-1")
    assert code == 0
    assert out.splitlines()[0].startswith("mine.py(at=2.0) seed 0: Phi <= 4 (L-BFGS")  # x = at / 2 in each of two
    (path,) = (tmp_path / "results" / "references").iterdir()  # the seed changes nothing: one is enough
    made = references.loads(path.read_bytes())
    assert (made.problem, made.seed, made.budget) == ("mine.py:mine(at=2.0,known=False,crash=False)", None, 300)
    assert made.phi == pytest.approx(4.0, rel=1e-12)
    before = path.stat().st_mtime_ns
    assert here("mine.py(at=2.0)", "--budget", "300")[0] == 0
    assert path.stat().st_mtime_ns == before  # it is there
    (tmp_path / "mine.py").write_text(LOOSE.replace("(x ** 2)", "2 * (x ** 2)"))
    assert here("mine.py(at=2.0)", "--budget", "300")[0] == 0
    assert references.loads(path.read_bytes()).phi == pytest.approx(16 / 3, rel=1e-12)  # the file is another now


WRONG = {
    "phi_star": (["mine.py(known=True)"], "it needs no reference: Phi* = 0 is known (said)"),
    "a budget that does not do": (["hyper_cleaning", "--budget", "7"], "a budget of 7 gradients of g does not do"),
    "code that raises": (["mine.py(crash=True)"], "its code raised OSError: no more"),
    "an unknown name": (["coresetkernel"], "did you mean coreset_kernel"),
    "an unknown suite": (["--suite", "learnin"], "did you mean learning"),
    "both": (["mine.py", "--suite", "learning"], "give one of them"),
    "neither": ([], "no problem was given"),
    "no budget": (["mine.py", "--budget", "0"], "--budget 0 is not valid; it takes a whole number from 1 on"),
    "no seeds": (["mine.py", "--seeds", "a"], "seeds 'a' cannot be read"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_request_is_one_sentence_and_exit_code_2(here, kind):
    arguments, words = WRONG[kind]
    code, out, err = here(*arguments)
    said = [line for line in err.splitlines() if not line.startswith("[")]
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert words in said[0]
    assert not out


def test_in_python_an_object_does_and_its_runs_have_the_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "processes", Forks)
    (made,) = bb.reference({"mine": solved()}, budget=400, out=tmp_path, progress=False)
    assert made.phi == pytest.approx(search(solved(), 5, 400).phi, rel=1e-9)
    results = bb.run({"mine": solved()}, "bome", steps=3, out=tmp_path, in_process=True, progress=False)
    assert results.runs["reference"].tolist() == [made.phi]
    with pytest.raises(RequestError, match="budget='many' is not valid"):
        bb.reference("once", budget="many", out=tmp_path)
