"""Tests in tiers: what is slow is marked, and has a small sibling among the tests that always run.

T0 is what the README's command runs. T1, ``.ci/nightly``, is what has a marker of ``SLOW``, each with its ``sibling``:
the name of a test of the same kind in T0. T2 are the scripts in ``tests/campaigns``, each with a ``SIBLING``, too.
"""

import ast
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SLOW = ("process", "browser", "cluster", "docs", "compile", "full")


def trees():
    return {file: ast.parse(file.read_text()) for file in sorted(TESTS.rglob("*.py"))}


def markers(node):
    """The slow markers in a node, as (name, sibling or None)."""
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    called = {id(call.func) for call in calls}
    bare = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and id(inner) not in called]
    for inner in (*calls, *bare):
        kind, _, name = ast.unparse(inner.func if isinstance(inner, ast.Call) else inner).rpartition(".")
        if kind == "pytest.mark" and name in SLOW:
            keywords = inner.keywords if isinstance(inner, ast.Call) else []
            yield name, {k.arg: ast.literal_eval(k.value) for k in keywords}.get("sibling")


def definitions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def fast(all_trees):
    """The tests that run at least once in T0: without a slow marker, or with one on some of their parameters."""
    names = set()
    for tree in all_trees.values():
        for test in definitions(tree):
            whole = [d for d in test.decorator_list if list(markers(d)) and "parametrize" not in ast.unparse(d)]
            if not whole:
                names.add(test.name)
    return names


def missing(all_trees):
    """A sentence for each slow test without a sibling in T0."""
    known, found = fast(all_trees), []
    for file, tree in all_trees.items():
        for test in definitions(tree):
            for decorator in test.decorator_list:
                for marker, sibling in markers(decorator):
                    if sibling not in known:
                        found.append(f"{file.name}: {test.name} is {marker} and its sibling {sibling!r} is not in T0")
        if file.parent.name == "campaigns" and file.name != "__init__.py":
            named = [
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SIBLING"
            ]
            if not named or named[0] not in known:
                found.append(f"{file.name}: its SIBLING {named} is not in T0")
    return found


def test_every_slow_test_has_a_sibling_that_always_runs():
    assert not missing(trees())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@pytest.mark.full\ndef test_a(): pass", "sibling None"),
        ("@pytest.mark.full(sibling='test_b')\ndef test_a(): pass", "sibling 'test_b'"),
        ("@pytest.mark.full(sibling='test_a')\ndef test_a(): pass", "sibling 'test_a'"),
        ("@pytest.mark.parametrize('k', [1, pytest.param(2, marks=pytest.mark.full(sibling='b'))])\n"
         "def test_a(k): pass", "sibling 'b'"),
    ],
)  # fmt: skip
def test_a_slow_test_alone_is_found(source, words):
    (found,) = missing({Path("test_x.py"): ast.parse(source)})
    assert words in found


def test_siblings_are_accepted():
    source = (
        "@pytest.mark.full(sibling='test_b')\ndef test_a(): pass\n"
        "@pytest.mark.parametrize('k', [1, pytest.param(2, marks=pytest.mark.full(sibling='test_b'))])\n"
        "def test_b(k): pass\n"
    )
    assert not missing({Path("test_x.py"): ast.parse(source)})


def test_a_campaign_needs_a_sibling():
    campaign = {Path("campaigns/kill.py"): ast.parse("SIBLING = 'test_a'")}
    assert len(missing(campaign)) == 1
    assert not missing(campaign | {Path("test_x.py"): ast.parse("def test_a(): pass")})


def test_the_tiers_are_what_the_commands_run():
    """The default leaves out every slow marker, and the nightly command runs every one."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    listed = " or ".join(SLOW)
    assert f"-m 'not ({listed})'" in options["addopts"]
    assert {text.partition("(")[0] for text in options["markers"] if "sibling" in text} == set(SLOW)
    assert f'-m "{listed}"' in (ROOT / ".ci" / "nightly").read_text()


@pytest.mark.xdist_group("together")
def test_what_is_marked_as_one_group_goes_to_one_process(request):
    """pytest-xdist tells a group by a test's name; where it can't, what tests share is made in every process."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@together")
