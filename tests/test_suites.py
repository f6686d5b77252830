"""The shipped suites are the ones that were promised, and hold what they say."""

from bilevelbench.core.registry import PROBLEMS, parse
from bilevelbench.problems._bolib import INSTANCES
from bilevelbench.run.suite import load_suite, suite_names

PROMISED = {"default", "smoke", "closed-form", "traps", "constrained", "scale", "learning", "everything"}


def specs(name):
    return [spec for block in load_suite(name).blocks for spec in block.problems]


def test_the_promised_suites_are_there():
    assert set(suite_names()) >= PROMISED
    assert all(load_suite(name).about for name in PROMISED)


def test_everything_is_the_other_suites():
    parts = [
        block
        for name in ("closed-form", "traps", "constrained", "scale", "learning")
        for block in load_suite(name).blocks
    ]
    assert list(load_suite("everything").blocks) == parts


def test_the_bolib_group_is_whole():
    named = [parse(spec).arguments["name"] for spec in specs("traps") if spec.startswith("bolib")]
    assert sorted(named) == sorted(INSTANCES)


def test_no_problem_is_in_no_suite():
    ours = {name for name in PROBLEMS.names() if PROBLEMS.entries[name].make.__module__.startswith("bilevelbench.")}
    assert ours == {parse(spec).name for spec in specs("everything")}
