"""The page on records names every field that is written, and says truly since when."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bilevelbench.store.schema import SCHEMA, End, Header, Row, RunKey
from bilevelbench.store.shapes import Bar, Digest, Environment, Problem, Solver
from bilevelbench.store.summary import BYTES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records.md"
FROZEN = ROOT / "tests" / "frozen"
PARTS = {
    "Header: the first line": ("header",), "`key`": ("header", "key"), "`problem`": ("header", "problem"),
    "`solver`": ("header", "solver"), "`environment`": ("header", "environment"), "Rows: one for each look": ("row",),
    "End: the last line": ("end",), "`memory`": ("end", "memory"),
}  # fmt: skip
DECLARED = {
    "Header: the first line": {"kind", "schema", "digest", *(f.name for f in fields(Header))},
    "`key`": {f.name for f in fields(RunKey)}, "`problem`": {*Problem.__annotations__},
    "`solver`": {*Solver.__annotations__}, "`environment`": {*Environment.__annotations__},
    "Rows: one for each look": {"kind", "after", *(f.name for f in fields(Row))},
    "End: the last line": {"kind", *(f.name for f in fields(End))}, "`memory`": {*BYTES},
}  # fmt: skip


def tables(text):
    """Of each part of the page the fields with the version that they are said to be of, and their units."""
    found, part = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            part = line.lstrip("# ")
        if re.match(r"\| `", line):
            names, _, unit, since = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for name in re.findall(r"`([^`]+)`", names):
                assert name not in found.setdefault(part, {}), f"{name} is there twice"
                found[part][name] = since, unit
    return found


def written(schema):
    """Of each part the fields that frozen files of a schema have."""
    found = {part: set() for part in PARTS}
    for path in (FROZEN / f"schema{schema}").glob("*.jsonl"):
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            for part, (kind, *inner) in PARTS.items():
                if line["kind"] == kind:
                    found[part] |= set(line.get(inner[0]) or () if inner else line)
    return found


def wrong(text):
    """What is not true of the page."""
    said = tables(text)
    faults = [f"no part {part}" for part in PARTS if part not in said]
    older, present = written(1), written(SCHEMA)
    for part, own in said.items():
        faults += [f"{part}: {name} is not there" for name in (DECLARED[part] | present[part]) - set(own)]
        faults += [f"{part}: {name} has no unit" for name, (_, unit) in own.items() if not unit]
        for name, (since, _) in own.items():
            if name not in DECLARED[part] | present[part] | older[part] and (part, name) not in RARE:
                faults.append(f"{part}: nobody writes {name}")
            if (name in older[part]) != (since == "1") and (part, name) not in RARE:
                faults.append(f"{part}: {name} is not since {since}")
    return faults


RARE = {
    *(("`environment`", name) for name in ("gpu", "cuda", "driver", "gpu_megahertz", "gpu_celsius")),
    ("`memory`", "cuda_bytes"), *(("`memory`", name) for name in BYTES),  # in version 1 they are in a row
    ("Rows: one for each look", "compile_seconds"),
}  # fmt: skip


def test_every_field_of_a_record_is_on_the_page():
    assert not wrong(PAGE.read_text())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("| `unjudged` |", "| `unjudge` |"), "unjudged is not there"),
        (("| `seed` | of problem, split, noise and start | whole number |", "| `seed` | x |  |"), "seed has no unit"),
        (("| `place` |", "| `place`, `plaice` |"), "nobody writes plaice"),
        (("until it ended | whole number | 2 |", "until it ended | whole number | 1 |"), "attempts is not since 1"),
        (("that asked for it | text | 1 |", "that asked for it | text | 2 |"), "suite is not since 2"),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong_is_found(change, fault):
    text = PAGE.read_text()
    assert change[0] in text
    assert any(fault in one for one in wrong(text.replace(*change)))


def test_what_is_in_objects_is_named():
    text = PAGE.read_text()
    for shape in (Bar, Digest):
        assert all(f"`{name}`" in text for name in shape.__annotations__)
