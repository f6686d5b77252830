"""What a line of a run's file is, and what a reader takes for one."""

import hashlib
import json
import math
from dataclasses import replace

import pytest

from bilevelbench.store import schema
from bilevelbench.store.schema import End, Header, Row, RunKey, dumps
from bilevelbench.store.shapes import DEEPEST, EndShape, HeaderShape, RowShape, _deeper, shaped

KEY = RunKey("quadratic(d=3)", 1, "bome(lr=0.1)", 4, "cpu", "float64", "eager", 1, 10, None, None, False, "c")
ROW = json.loads(dumps(Row(1)))
HEADER = json.loads(dumps(Header(KEY, {"given": "p"}, {"given": "s"}, {})))
END = json.loads(dumps(End()))


@pytest.mark.parametrize("name", [*RunKey.__dataclass_fields__])
def test_each_field_of_a_key_tells_experiments_apart(name):
    other = "x" if isinstance(getattr(KEY, name), str) else 7
    assert replace(KEY, **{name: other}).digest != KEY.digest
    assert len(KEY.digest) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"seed": 10**12}, {"calls": 1}, {"calls": 1.0}, {"calls": True}, {"rows": 7, "judge": "figures"},
        {"seconds": 0.1}, {"seconds": 1e-7}, {"problem": 'a", "seed": 0'}, {"solver": "ä\udc80"}, {"code": ""},
    ],
)  # fmt: skip
def test_the_digest_is_that_of_the_key_as_json(changes):
    """Of many seeds the rest is spelled once, and yet each digest is what it was when each key was spelled whole."""
    for seed in (3, 44, 0):
        own = replace(KEY, **({"seed": seed} | changes))
        text = json.dumps(own.as_json(), sort_keys=True)
        assert own.digest == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("problem", "solver", "stem"),
    [
        ("quadratic(d=3)", "bome(lr=0.1)", "quadratic-bome"),
        ("/a/b/my.py:made(x=1)", "c\\d.py:s", "my-made-d-s"),
        (".hidden", "ä b", "hidden-__b"),
        ("p" * 100, "s", "p" * 80),
        ("a(b)(c", "s(", "a-s"),
    ],
)
def test_a_stem_is_readable_and_bounded(problem, solver, stem):
    key = replace(KEY, problem=problem, solver=solver)
    assert key.stem == f"{stem}-s4-{key.digest}"


def test_a_row_says_what_is_set():
    assert Row(3).as_json() == {
        "kind": "row", "step": 3, "seconds": None, "calls": {}, "total_calls": 0, "rows": {}, "metrics": {},
        "status": "running",
    }  # fmt: skip
    row = Row(3, reason="r", judge_seconds=0.0, x=[], passes={"forward": 1}, memory={})
    said = row.as_json()
    assert (said["reason"], said["judge_seconds"], said["x"], said["passes"]) == ("r", 0.0, [], {"forward": 1})
    assert "memory" not in said


def test_defaults_of_the_other_lines():
    assert End().as_json() == {
        "kind": "end", "attempts": 1, "manifest": {}, "audit": {}, "after": {}, "memory": {}
    }  # fmt: skip
    header = Header(KEY, {}, {}, {}).as_json()
    assert (header["kind"], header["schema"], header["digest"]) == ("header", 2, KEY.digest)
    assert (header["suite"], header["command"], header["created"], header["timeout"], header["prices"]) == (
        "", "", "", None, {},
    )  # fmt: skip


def test_what_is_not_finite_is_null_wherever_it_is():
    line = dumps(Row(1, metrics={"a": math.nan, "b": math.inf, "c": 1.0}, x=[math.nan, 1.0]))
    found = json.loads(line)
    assert found["metrics"] == {"a": None, "b": None, "c": 1.0}
    assert found["x"] == [None, 1.0]
    assert json.loads(dumps(End(audit={"pair": (math.inf, 2)})))["audit"] == {"pair": [None, 2]}
    assert " " not in line


def test_statuses():
    assert set(schema.FAILED) == {"diverged", "error", "timeout", "oom", "lost", "cut off"}
    assert schema.KNOWN_SCHEMAS == (1, 2)
    assert schema.SCHEMA == 2


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True), ({"step": -1}, False), ({"step": 0}, True), ({"step": 2**53}, True), ({"step": 2**53 + 1}, False),
        ({"step": 1.5}, False), ({"seconds": -0.1}, False), ({"seconds": 0.0}, True), ({"seconds": 1e12}, True),
        ({"seconds": 2e12}, False), ({"total_calls": -1}, False), ({"calls": {"f": -1}}, False),
        ({"rows": {"f": 0}}, True), ({"status": "cut off"}, False), ({"status": "lost"}, True),
        ({"fault": "machine"}, True), ({"fault": "me"}, False), ({"memory": {"peak_bytes": 1.0}}, True),
        ({"memory": {"peak_bytes": 1e301}}, False), ({"memory": {"peak_bytes": -1e301}}, False),
        ({"memory": None}, True), ({"memory": 3}, False), ({"after": {}}, True), ({"after": None}, True),
        ({"after": 3}, False), ({"metrics": {"a": None}}, True), ({"metrics": {"a": "b"}}, False),
        ({"kind": "end"}, False), ({"x": [1.0]}, True), ({"x": ["a"]}, False),
    ],
)  # fmt: skip
def test_rows_within_their_bounds(change, good):
    assert (shaped(ROW | change, RowShape) == "") is good


@pytest.mark.parametrize("name", ["step", "status", "metrics", "calls", "total_calls", "kind"])
def test_what_a_row_needs(name):
    assert shaped({k: v for k, v in ROW.items() if k != name}, RowShape)


@pytest.mark.parametrize("name", [*RunKey.__dataclass_fields__])
def test_what_a_key_needs(name):
    key = {k: v for k, v in HEADER["key"].items() if k != name}
    needed = name in ("problem", "solver", "seed", "device", "dtype", "threads")
    assert bool(shaped(HEADER | {"key": key}, HeaderShape)) is needed


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True), ({"prices": {"f": [1.0, 0.0]}}, True), ({"prices": {"f": [1.0]}}, False),
        ({"timeout": None}, True), ({"timeout": "x"}, False), ({"problem": {"n_x": -1}}, False),
        ({"problem": {"n_x": None}}, True), ({"problem": {"better": {"a": "lower"}}}, True),
        ({"problem": {"better": {"a": "up"}}}, False), ({"solver": {"order": 3}}, False),
        ({"solver": {"order": 0}}, True), ({"solver": {"by_hand": None}}, True),
        ({"environment": {"cores": -1}}, False),
        ({"environment": {"load": [0.1]}}, True), ({"key": HEADER["key"] | {"seed": -1}}, False),
        ({"key": HEADER["key"] | {"seed": 0}}, True), ({"key": HEADER["key"] | {"seed": 2**53}}, True),
        ({"key": HEADER["key"] | {"seed": 2**53 + 1}}, False), ({"key": HEADER["key"] | {"steps": None}}, True),
    ],
)  # fmt: skip
def test_headers_within_their_bounds(change, good):
    assert (shaped(HEADER | change, HeaderShape) == "") is good


@pytest.mark.parametrize(("attempts", "good"), [(0, False), (1, True), (1000, True), (1001, False)])
def test_attempts_are_counted_from_one(attempts, good):
    assert (shaped(END | {"attempts": attempts}, EndShape) == "") is good
    assert shaped({k: v for k, v in END.items() if k != "attempts"}, EndShape) == ""


def test_lines_may_be_so_deep_and_no_deeper():
    deep = 1
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert shaped(END | {"audit": {"a": deep[0]}}, EndShape) == ""
    assert shaped(END | {"audit": {"a": deep}}, EndShape) == f"it is nested deeper than {DEEPEST} levels"
    assert not _deeper([[1]], 2)
    assert _deeper([[1]], 1)
    assert _deeper({"a": {"b": 1}}, 1)
    assert not _deeper(1, 0)
