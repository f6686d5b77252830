"""The reference suite: families, weights and instances; and that no solver is in no suite."""

from collections import Counter

import pytest

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem
from bilevelbench.core.spec import parse
from bilevelbench.run.suite import load_suite, suite_names
from bilevelbench.stats.papers import claims

STOCHASTIC = {"finite_sum_quadratic", "logistic", "hyper_cleaning", "reweighting"}


def families(blocks):
    return Counter(PROBLEMS.entry(parse(text)).family for block in blocks for text in block.problems)


def test_every_shipped_solver_is_in_a_suite():
    shipped = {name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.")}
    named = {parse(text).name for name in suite_names() for block in load_suite(name).blocks for text in block.solvers}
    named |= {parse(text).name for claim in claims() for text in claim.solvers.values()}
    assert shipped <= named, f"in no suite and no claim of a paper: {sorted(shipped - named)}"


def test_the_reference_has_families_enough_and_none_outweighs():
    found = families(load_suite("reference").blocks)
    assert len(found) >= 8
    assert 1 / len(found) <= 1 / 5, "families weigh alike, and the toys of a paper are at most one"
    assert {"quadratics", "bome_toys", "nonconvex", "constrained", "weighting"} <= set(found)


@pytest.mark.parametrize("text", sorted({text for block in load_suite("reference").blocks for text in block.problems}))
def test_every_problem_of_the_reference_has_five_instances(text):
    (block, *_) = [block for block in load_suite("reference").blocks if text in block.problems]
    assert len(block.seeds) >= 5
    one, other = (build_problem(text, Draw(seed)) for seed in (0, 1))
    assert one.seeded
    seen = [
        (float(made.f(made.x0, made.y0)), float(derive.grad_y(made.g, made.x0, made.y0).norm()))
        for made in (one, other)
    ]
    assert seen[0] != pytest.approx(seen[1], rel=1e-9), "the seed changes what a solver meets at its start"


def test_the_default_is_a_sample_of_the_reference():
    default, reference = load_suite("default").blocks, load_suite("reference").blocks
    of = {text: block for block in reference for text in block.problems if block.rows is None}
    for block in default:
        (text,) = block.problems
        assert {*block.solvers} <= {*of[text].solvers}
        assert block.tuned["seeds"] == of[text].tuned["seeds"]
        assert {*block.seeds} <= {*of[text].seeds}
    assert len(families(default)) >= 8


def test_on_the_stochastic_track_all_that_claim_minibatches_run_with_them():
    blocks = load_suite("stochastic").blocks
    assert {parse(text).name for block in blocks for text in block.problems} == STOCHASTIC
    claim = {name for name in SOLVERS.names() if hasattr(SOLVERS.entries[name].make, "batch")}
    ours = {name for name in claim if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.")}
    ours -= {"bome_released", "penalty_released"}  # with the constants of their authors' scripts, for claims of papers
    for block in blocks:
        assert block.rows
        assert {parse(text).name for text in block.solvers} == ours
        assert all(parse(text).arguments["batch"] for text in block.solvers)


@pytest.mark.parametrize(
    "name", ["reference", "default", "stochastic", "scale", "constrained", "closed-form", "deep", "learning", "traps"]
)
def test_a_choice_at_the_edge_says_of_which_knob(name):
    for block in load_suite(name).blocks:
        for solver, knobs in block.tuned.get("edges", {}).items():
            assert solver in block.solvers
            assert knobs
            assert set(knobs) <= set(parse(solver).arguments)
