"""What the contract asks of problems beyond finite numbers: each line of it catches a problem that breaks it."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevelbench import Draw, Problem, build_problem
from bilevelbench.catalogue import NO_DATA, problem_rows, regenerated, show
from bilevelbench.contract import PROBLEM_CHECKS, check, problems
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.registry import PROBLEMS, Entry
from bilevelbench.run.describe import describe_problem

BROKEN = Path(__file__).with_name("broken_problems.py")
README = Path(__file__).parents[1] / "problems/README.md"

LOCAL = (
    "local: the minimiser that descent reaches from the solver's y, or from the last one found where g is less there"
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("says_no_selection", "does not say which minimiser"),
        ("not_optimistic", "less than at y*(x)"),
        ("only_local", "below g(x, y*(x))"),
        ("infeasible", "violates h_g"),
        ("not_optimal_on_the_constraint", "bounds and constraints hold back"),
        ("ignores_the_constraint", "bounds and constraints hold back"),
        ("projects_too_far", "nearer than project_xy"),
        ("wrong_constraint", "dh_g gives"),
        ("off_the_bounds", "outside the bounds"),
        ("wrong_second_derivatives", "d2f/dxdy v is off"),
        ("no_such_figure", "`better` names ['accuracy']"),
        ("no_such_line", "reference lines ['validation only']"),
        ("no_bar", "no `bar`"),
    ],
)
def test_the_contract_catches(name, words):
    passed, text = check(f"{BROKEN}:{name}")
    assert not passed
    failures = [line for line in text.splitlines() if "FAILED" in line]
    assert len(failures) == 1, text
    assert words in failures[0]


def test_a_constrained_problem_that_is_right_passes():
    passed, text = check(f"{BROKEN}:coupled")
    assert passed, text
    assert "the least of the samples" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("singleton", "optimistic: f is least at y2 = x"),
        ("architecture", LOCAL),
        ("hyper_cleaning(protocol='as_in_vpbgd')", "any: the one that descent reaches from the solver's y"),
        ("quadratic", ""),
    ],
)
def test_which_lower_solution_is_meant_is_said_in_the_list_and_in_the_header(text, words, monkeypatch):
    monkeypatch.setattr("bilevelbench.problems.architecture.ITERATIONS", 5)  # of its lines
    assert describe_problem(text, build_problem(text, Draw(0)), False)["selection"].startswith(words)
    listed = show(text)
    assert (f"y*(x): {words}" if words else "flags: ") in listed
    assert ("y*(x):" in listed) == bool(words)


def test_without_decay_lower_solutions_of_hyper_cleaning_are_many():
    """A vector added to the weights of all classes changes neither g nor f."""
    problem = build_problem("hyper_cleaning(protocol='as_in_penalty_small')", Draw(0))
    assert "multi_valued" in problem.flags
    y = problem.y0 + 0.1 * Draw(1).normal(len(problem.y0))
    other = y + torch.cat([Draw(2).normal(64).repeat(10), torch.full((10,), 3.0).double()])
    for function in (problem.f, problem.g):
        assert float(function(problem.x0, other)) == pytest.approx(float(function(problem.x0, y)), rel=1e-12)


def test_our_problems_must_say_what_they_show(monkeypatch):
    run = PROBLEM_CHECKS["says what it shows"]
    old = PROBLEMS.entries["quadratic"] if "quadratic" in PROBLEMS.names() else None
    monkeypatch.setitem(PROBLEMS.entries, "quadratic", Entry("quadratic", old.make, old.doc, old.file, old.version))
    with pytest.raises(AssertionError, match="shows="):
        run("quadratic")
    assert run(f"{BROKEN}:coupled") == "", "other people's problems may be silent"


def test_a_seed_that_moves_the_start_only_is_told_from_one_that_moves_the_data():
    run = PROBLEM_CHECKS["seeds mean something"]
    assert run("pl_sine") == "another seed gives another start"
    assert run("ridge(split='random')") == "another seed gives another data"
    assert run("quadratic") == "another seed gives another start and other data"
    assert run("jump") == "nothing is drawn"


def test_the_page_of_problems_has_the_registry_s_table():
    """Rows of problems whose data are missing here are not compared."""
    text = README.read_text(encoding="utf-8")
    missing = {f"| `{row[0]}` |" for row in problem_rows() if row[3] == NO_DATA}
    assert "<!-- problems -->" in text
    assert same_page(regenerated(text), text, missing), "run: python -m bilevelbench.catalogue problems/README.md"


def same_page(one, other, missing=()):
    """Whether two pages are the same, Phi* to one unit of the last digit that is printed: it is computed."""
    (rest, values), (other_rest, others) = (cut(page, tuple(missing)) for page in (one, other))
    return rest == other_rest and all(near(*pair) for pair in zip(values, others, strict=True))


def cut(page, missing):
    """The lines without Phi*, the fifth cell of seven, and without problems that are missing; the values of Phi*."""
    rest, values = [], []
    for line in page.splitlines():
        cells = line.split(" | ")
        if line.startswith(missing):
            continue
        if line.startswith("| `") and len(cells) == 7:
            values.append(cells.pop(4))
        rest.append(cells)
    return rest, values


def near(one, other):
    numbers = "unknown" not in (one, other) and one and other
    return abs(float(one) - float(other)) <= 1e-5 * abs(float(other)) + 1e-12 if numbers else one == other


def test_pages_may_differ_in_the_last_digit_of_phi_star_alone():
    row = "| `quadratic` | 20 | 20 | convex | 0.218355 | conditioning | closed form |"
    assert same_page(row.replace("218355", "218356"), row)
    for old, new in (
        ("218355", "218358"),
        ("20", "21"),
        ("0.218355", "unknown"),
        ("conditioning", "x"),
        ("| c", "| d"),
    ):
        assert not same_page(row.replace(old, new, 1), row), new
    assert not same_page(row + "\n" + row, row)


def test_a_problem_without_its_data_is_listed(monkeypatch):
    def nothing(rng: Draw) -> Problem:
        raise Unsupported("the file is missing")

    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", {"nothing": Entry("nothing", nothing, "", BROKEN, 1, "an empty folder")})
    assert problem_rows() == [("nothing", "", "", NO_DATA, "", "an empty folder", "")]


def test_the_optimistic_answer_of_jump_at_zero():
    problem = build_problem("jump", Draw(0))
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(problem.f(zero, problem.y_star(zero))) == problem.phi_star


WITH_LINES = (
    "architecture", "augment", "continual", "continual_stream", "coreset_kernel", "data_mixture", "dictionary",
    "distill", "fair", "few_shot", "few_shot_stream", "hyper_cleaning", "imbalance", "l2_newsgroups", "poisoning",
    "policy", "prune", "reweighting",
)  # fmt: skip


def test_every_learning_problem_has_reference_lines_and_no_other():
    ours = [name for name in PROBLEMS.names() if PROBLEMS.entries[name].make.__module__.startswith("bilevelbench.")]
    assert tuple(name for name in ours if _lines(name)) == WITH_LINES


def _lines(name):
    try:
        return build_problem(name, Draw(0)).references
    except Unsupported:
        return None


@pytest.mark.parametrize("name", WITH_LINES)
def test_reference_lines_are_kept_with_how_they_were_had(name, tmp_path, monkeypatch):
    """What is read the second time is what was solved the first: a kept line that is changed by hand comes back."""
    monkeypatch.setenv("BILEVELBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("bilevelbench.problems.architecture.ITERATIONS", 5)  # nine nets: it is the keeping that counts
    forget()
    lines = build_problem(name, Draw(0)).references()
    files = sorted((tmp_path / "made").glob(f"{name}-*.json"))
    records = [json.loads(path.read_text()) for path in files]
    assert {line for record in records for line in record["lines"]} == set(lines)
    for path, record in zip(files, records, strict=True):
        assert record["of"]["seed"] == 0
        assert record["how"]
        record["lines"] = {line: {"phi": 12345.0} for line in record["lines"]}
        path.write_text(json.dumps(record))
    forget()
    again = build_problem(name, Draw(0)).references()
    assert again == {line: {"phi": 12345.0} for line in lines}


def forget():
    """What is kept in memory as well, for the metrics of these two."""
    for module in ("poisoning", "continual"):
        importlib.import_module(f"bilevelbench.problems.{module}")._references.cache_clear()


def in_units(f, g, x, y, f_slope=1.0, g_slope=1.0):
    """A problem in units of f, g, x and y; slopes other than 1 make gradients wrong by that factor, values not."""
    plain = torch.linspace(0.5, 1.5, 3, dtype=torch.float64)

    def off(value, factor):
        return value + (factor - 1) * (value - value.detach())

    return Problem(
        f=lambda a, b, rows=None: off(f * ((a / x).sum() * (b / y).square().sum() + torch.cos(b / y).sum()), f_slope),
        g=lambda a, b, rows=None: off(g * torch.cosh(b / y - (a / x).sum()).sum(), g_slope),
        x0=x * plain, y0=y * plain,
    )  # fmt: skip


@settings(max_examples=30)
@given(units=st.tuples(*[st.integers(-10, 10).map(lambda k: 10.0**k)] * 4), wrong=st.sampled_from(["f", "g", ""]))
def test_derivatives_are_held_to_differences_in_any_units(units, wrong):
    slopes = {f"{wrong}_slope": 1.001} if wrong else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "built", lambda target: in_units(*units, **slopes))
        if wrong:
            with pytest.raises(AssertionError, match="should be"):
                problems.gradients_are_right("")
        else:
            problems.gradients_are_right("")
            problems.second_order_products_are_right("")
