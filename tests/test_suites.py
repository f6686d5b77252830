"""The shipped suites are the ones that were promised, and hold what they say."""

import math
import re

import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.spec import parse
from bilevelbench.problems._bolib import rows
from bilevelbench.run import suite
from bilevelbench.run.plan import expand
from bilevelbench.run.suite import load_suite, suite_names

PARTS = ("closed-form", "traps", "constrained", "scale", "learning", "deep")  # of everything
PROMISED = {"default", "smoke", *PARTS, "bolib", "everything"}


def specs(name):
    return [spec for block in load_suite(name).blocks for spec in block.problems]


def test_the_promised_suites_are_there():
    assert set(suite_names()) >= PROMISED
    assert all(load_suite(name).about for name in PROMISED)


def test_everything_is_the_other_suites():
    parts = [block for name in PARTS for block in load_suite(name).blocks]
    assert list(load_suite("everything").blocks) == parts


def test_the_bolib_group_is_there():
    named = [parse(spec).arguments["name"] for spec in specs("traps") if spec.startswith("bolib")]
    assert len(named) == len(set(named)) == 25
    assert set(named) <= set(rows())


def test_the_suite_bolib_has_all_that_is_certified_and_can_be_taken():
    """Each row with a Phi* and an exact lower solver is asked of each solver that has a way with its constraints."""
    blocks = load_suite("bolib").blocks
    handles = {parse(s).name: set(SOLVERS.entry(parse(s)).make.handles) for block in blocks for s in block.solvers}
    asked = {
        parse(p).arguments["name"]: {parse(s).name for s in block.solvers} for block in blocks for p in block.problems
    }
    for name, row in rows().items():
        there = {kind for kind, level in (("h_f", row.G), ("h_g", row.g)) if level is not None}
        exact = row.structure != "nonlinear_below" or row.answer is not None
        known = exact and not math.isnan(row.value)
        taken = {solver for solver, way in handles.items() if there <= way} if known else set()
        assert asked.get(name, set()) == taken, name


def test_no_problem_is_in_no_suite():
    ours = {name for name in PROBLEMS.names() if PROBLEMS.entries[name].make.__module__.startswith("bilevelbench.")}
    assert ours == {parse(spec).name for spec in specs("everything")}


BLOCK = '[[block]]\nproblems = ["minimax"]\nsolvers = ["bome"]\nsteps = 3\n'


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder that takes the place of the shipped suites, with one suite of one run in it."""
    monkeypatch.setattr(suite, "SUITES", tmp_path)
    (tmp_path / "small.toml").write_text(BLOCK, encoding="utf-8")
    return tmp_path


def test_included_blocks_come_before_a_suites_own_and_equal_runs_are_one(shipped):
    own = BLOCK.replace("3", "4")
    (shipped / "large.toml").write_text('include = ["small", "small"]\n' + own, encoding="utf-8")
    large = load_suite("large")
    assert [block.steps for block in large.blocks] == [3, 3, 4]
    assert [job.key.steps for job in expand(large, shipped)] == [3, 4]
    assert load_suite(str(shipped / "large.toml")).blocks == large.blocks


@pytest.mark.parametrize(
    ("include", "words"),
    [
        ('["smal"]', "includes 'smal', which is no suite; did you mean small?"),
        ('["large"]', "suite large includes large, by which it is included itself"),
        ('["between"]', "suite between includes large, by which it is included itself"),
        ('"small"', "include = 'small' is not valid; it takes a list of names of suites"),
        ("[]", "has no [[block]]"),
    ],
)
def test_a_wrong_include_is_one_sentence(shipped, include, words):
    (shipped / "large.toml").write_text(f"include = {include}\n", encoding="utf-8")
    (shipped / "between.toml").write_text('include = ["large"]\n', encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(words)):
        load_suite("large")
