"""Whatever lies in a results folder: no traceback, no hang, nothing followed, and what is good is shown."""

import json
import math
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.report.page import write
from bilevelbench.store import files, journal, order
from bilevelbench.store.frame import load
from bilevelbench.store.journal import Journal, read, read_folder
from bilevelbench.store.schema import CUT, KNOWN_SCHEMAS, End, Header, Row, dumps
from tests.campaigns.mutate_results import campaign
from tests.results_factory import key, write_run

ROOT = Path(__file__).parents[1]
FROZEN = ROOT / "tests" / "frozen"


def lines_of(path):
    return path.read_bytes().decode().splitlines()


def rewritten(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return read(path)


# -- files of earlier schemas, and of the present one as it is frozen


def plain(value):
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


@pytest.mark.parametrize("schema", KNOWN_SCHEMAS)
def test_frozen_files_give_the_frame_that_they_gave(schema):
    """The tables were written by code of their time, from the same files: ``schema1.json`` by the last of that schema.

    One file of each is cut in the middle of a line. One of the second has what the first code of that schema wrote.
    """
    wanted = json.loads((FROZEN / f"schema{schema}.json").read_text())
    data = load(FROZEN / f"schema{schema}")
    assert {(record.header or {})["schema"] for record in data.records.values()} == {schema}
    assert set(data.runs["run"]) == set(wanted["runs"])
    assert data.notes == wanted["notes"]
    assert len(data.troubles) == 2
    for run in data.runs.to_dict("records"):
        was, looks = wanted["runs"][run["run"]], data.looks[data.looks["run"] == run["run"]]
        assert {name: plain(run[name]) for name in was["run"]} == was["run"]
        assert len(looks) == was["looks"]
        assert looks["phi"].sum() == was["phi"]
        assert {name: plain(value) for name, value in looks.iloc[-1].items() if name in was["last"]} == was["last"]


def test_in_the_first_schema_every_failure_is_the_solvers():
    runs = load(FROZEN / "schema1").runs
    whose = {f"{run['name']} on {run['asked_problem']}": run["fault"] for run in runs.to_dict("records")}
    failed = {name.partition(" ")[0] for name, fault in whose.items() if fault == "solver"}
    assert failed == {"bome", "hangs", "raises", "turns_nan"}, "bome was cut off"
    assert set(whose.values()) == {"", "solver"}
    runs = runs.set_index("name")
    assert runs["order"].to_dict() == {"bome": 1, "es": 1, "hangs": 1, "itd": 2, "raises": 1, "turns_nan": 1}


# -- damaged lines


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: line[:-9], "is damaged"),
        (lambda line: "", ""),
        (lambda line: "null", "is damaged"),
        (lambda line: line.replace('"step":', '"step":9', 1), "is out of order"),
        (lambda line: line.replace('"step":', '"step":-1', 1), "is damaged"),
        (lambda line: line.replace('"seconds":0.0', '"seconds":7.0'), "is out of order"),
        (lambda line: line.replace('"seconds":0.0', '"seconds":1e999'), "is damaged"),
        (lambda line: line.replace('"total_calls":', '"total_calls":77', 1), "is out of order"),
        (lambda line: line.replace('"dg_y":', '"dg_y":7', 1), "is out of order"),
        (lambda line: line.replace('"running"', '"done"'), "is out of order"),
        (lambda line: line.replace('"running"', '"gone"'), "is damaged"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_kept(tmp_path, number, change, words):
    path = write_run(tmp_path, gaps=(1.0, 0.5, 0.2, 0.1, 0.05, 0.02))
    lines = lines_of(path)
    lines[number - 1] = change(lines[number - 1])
    record = rewritten(path, lines)
    assert [row["step"] for row in record.rows] == [step for step in range(6) if step != number - 2]
    assert record.status == "done"
    assert len(record.troubles) == (1 if words else 0)
    assert all(f"line {number} {words}" in trouble for trouble in record.troubles)


def test_lines_that_are_swapped_or_doubled_cost_one(tmp_path):
    path = write_run(tmp_path, gaps=(1.0, 0.5, 0.2, 0.1, 0.05))
    lines = lines_of(path)
    swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
    assert [row["step"] for row in rewritten(path, swapped).rows] in ([0, 1, 3, 4], [0, 2, 3, 4])
    doubled = rewritten(path, [*lines[:3], lines[2], *lines[3:]])
    assert [row["step"] for row in doubled.rows] == [0, 1, 2, 3, 4]
    assert "line 4 is out of order" in doubled.troubles[0] or "line 3 is out of order" in doubled.troubles[0]


def test_nothing_comes_after_the_end(tmp_path):
    path = write_run(tmp_path)
    end = lines_of(path)[-1]
    record = rewritten(path, [*lines_of(path), end])
    assert record.rows
    assert "line 6 is damaged" in record.troubles[0]


def test_a_row_that_says_how_a_run_failed_stays_at_its_step(tmp_path):
    record = read(write_run(tmp_path, status="timeout"))
    assert not record.troubles
    assert [row["step"] for row in record.rows] == [0, 1, 2, 2]
    path = write_run(tmp_path, seed=1, gaps=(1.0, 0.5), status="done")
    lines = lines_of(path)
    assert "out of order" in rewritten(path, [*lines[:-1], lines[-2], lines[-1]]).troubles[0]


@pytest.mark.parametrize("found", ["error", "lost"])
def test_what_an_audit_finds_is_the_last_word(tmp_path, found):
    """The driver appends it to a run that had ended well; it is no line out of order."""
    path = write_run(tmp_path, gaps=(1.0, 0.5), status="done")
    *_, last, end = lines_of(path)
    said = json.loads(last) | {"status": found, "reason": "ends elsewhere", "fault": "solver", "metrics": {}}
    record = rewritten(path, [*lines_of(path)[:-1], json.dumps(said), end])
    assert (record.status, record.fault, record.troubles) == (found, "solver", [])
    runs = load(tmp_path).runs
    assert (runs["status"][0], runs["reason"][0]) == (found, "ends elsewhere")
    twice = rewritten(path, [*lines_of(path)[:-1], json.dumps(said), end])
    assert "out of order" in twice.troubles[0], "there is one last word"


def test_a_file_that_lost_its_last_line_is_named(tmp_path):
    path = write_run(tmp_path)
    record = rewritten(path, lines_of(path)[:-1])
    assert record.status == "done"
    assert "has lost its last line" in record.troubles[0]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9))
def test_the_longest_chain_is_kept(pairs):
    rows = [
        {"step": step, "status": "running", "calls": {"f": calls}, "total_calls": calls, "seconds": None}
        for step, calls in pairs
    ]
    kept = sorted(order.chain(rows))
    assert all(order.follows(rows[b], rows[a]) for a, b in pairwise(kept))
    best = 0
    for mask in range(2 ** len(rows)):
        some = [row for k, row in enumerate(rows) if mask >> k & 1]
        if all(order.follows(b, a) for a, b in pairwise(some)):
            best = max(best, len(some))
    assert len(kept) == best


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["running", "done", "error"]))))
def test_the_fast_look_says_what_the_careful_one_says(rows):
    rows = [
        {
            "step": s,
            "status": status,
            "calls": {"f": c},
            "rows": {"f": c},
            "total_calls": c,
            "seconds": c,
            "cpu_seconds": c,
        }
        for s, c, status in rows
    ]
    careful = all(order.follows(b, a) for a, b in pairwise(rows))
    assert order.in_order(rows) == careful


def test_a_very_long_damaged_file_is_read_in_time(tmp_path):
    path = write_run(tmp_path)
    head, row, *_, end = lines_of(path)
    rows = [row.replace('"step":0', f'"step":{step}') for step in range(20_000)]
    rows[77] = "?"
    begin = time.process_time()
    record = rewritten(path, [head, *rows, end])
    assert len(record.rows) == 19_999
    assert time.process_time() - begin < 10


def test_mutated_files():
    """The small sibling of the campaign, which mutates ten thousand."""
    found = campaign(150, seed=3)
    assert {what: n for what, n in found.items() if n} == {"files": 150, "reports": 2}


# -- whole files


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", {}),
        ("problem", []),
        ("problem", {"references": {"a": {"phi": "low"}}}),
        ("problem", {"n_x": 10**400}),
        ("solver", {"order": 7}),
        ("environment", {"cores": "two"}),
        ("prices", {"dg_y": [1]}),
        ("timeout", "soon"),
        ("schema", 99),
        ("schema", True),
        ("digest", None),
    ],
)
def test_a_damaged_header_is_named_with_its_file(tmp_path, name, value):
    path = write_run(tmp_path)
    write_run(tmp_path, solver="good")
    head, *rest = lines_of(path)
    rewritten(path, [json.dumps(json.loads(head) | {name: value}), *rest])
    data = load(tmp_path)
    assert list(data.runs["solver"]) == ["good"]
    assert len(data.troubles) == 1
    assert str(path) in data.troubles[0]


def test_what_a_later_version_adds_is_let_be(tmp_path):
    path = write_run(tmp_path)
    head, first, *rest = lines_of(path)
    head = json.dumps(json.loads(head) | {"colour": "blue"})
    record = rewritten(path, [head, json.dumps(json.loads(first) | {"flavour": 3}), *rest])
    assert not record.troubles
    assert record.header["colour"] == "blue"


@pytest.mark.parametrize("deep", [13, 500, 100_000])
def test_nesting_is_capped(tmp_path, deep):
    path = write_run(tmp_path)
    head, *rest = lines_of(path)
    head = head.replace('"knobs":{}', '"knobs":{"a":' + "[" * deep + "]" * deep + "}", 1)
    record = rewritten(path, [head, *rest])
    assert record.header is None
    assert record.troubles


def test_a_file_that_is_too_large_or_has_too_many_lines_is_not_read(tmp_path, monkeypatch):
    path = write_run(tmp_path)
    monkeypatch.setattr(journal, "MOST_LINES", 2)
    assert "more than 2 lines" in read(path).troubles[0]
    monkeypatch.setattr(files.content, "__defaults__", (100,))
    assert "is larger than" in read(path).troubles[0]


def test_texts_are_cut_and_printable(tmp_path):
    write_run(
        tmp_path, "p" * 999, solver="s\x1b[31m\u202e" + "s" * 999, status="error", reason="r\x07" * 999,
        traceback="line\n\x1b[2J" * 9999,
    )  # fmt: skip
    (run,) = load(tmp_path).runs.to_dict("records")
    for name, most in (("problem", 300), ("solver", 300), ("reason", 300), ("traceback", 20_000), ("short", 28)):
        assert len(run[name]) <= most, name
        assert run[name].replace("\n", "").isprintable(), name
    assert run["traceback"].count("\n") > 100


# -- a stranger's folder


def test_links_pipes_and_folders_are_not_read(tmp_path):
    good = write_run(tmp_path / "results")
    elsewhere = write_run(tmp_path / "elsewhere", solver="secret")
    folder = tmp_path / "results"
    (folder / "link.jsonl").symlink_to(elsewhere)
    (folder / "sub").symlink_to(elsewhere.parent)
    (folder / "loop").symlink_to(folder)
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    data = load(folder)
    assert [record.path for record in data.records.values()] == [good]
    for name, words in (("link", "symbolic link"), ("pipe", "no plain file"), ("gone", "symbolic link")):
        assert any(f"{name}.jsonl" in trouble and words in trouble for trouble in data.troubles), data.troubles
    assert not list(files.finals(folder).get("link", []))


def test_a_journal_does_not_write_through_a_link(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    (tmp_path / "run.part").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic"):
        Journal(tmp_path / "run.part").append(Row(0))
    with Journal(tmp_path / "run.part") as made:
        made.begin(Header(key(), {}, {}, {}))
    assert secret.read_text() == "mine\n"
    assert not (tmp_path / "run.part").is_symlink()


@pytest.mark.parametrize("where", ["report", "report/data", "report/figures"])
def test_a_report_is_not_written_into_a_folder_that_is_a_link(tmp_path, where):
    write_run(tmp_path)
    (tmp_path / "secret").mkdir()
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        write(tmp_path, tmp_path / "report")
    assert not list((tmp_path / "secret").iterdir())


def test_a_report_replaces_links_and_does_not_follow_them(tmp_path):
    write_run(tmp_path)
    out, secret = tmp_path / "report", tmp_path / "secret"
    secret.write_text("mine")
    names = ("index.html", "data/leaders.csv", "data/targets.csv", "data/quadratic.csv", "figures/memory.pdf")
    for name in names:
        (out / name).parent.mkdir(exist_ok=True, parents=True)
        (out / name).symlink_to(secret)
    write(tmp_path, out)
    assert secret.read_text() == "mine"
    assert all(files.is_plain(out / name) and (out / name).stat().st_size for name in names)
    assert not list(out.rglob("*.tmp"))


# -- one writer


def test_a_line_is_one_write_and_nothing_is_read_again(tmp_path, monkeypatch):
    writes = []
    real = os.write
    monkeypatch.setattr(journal.os, "write", lambda handle, data: writes.append(data) or real(handle, data))
    monkeypatch.setattr(journal.os, "lseek", lambda *_: pytest.fail("it goes back"))
    with Journal(tmp_path / "a.part") as made:
        made.begin(Header(key(), {}, {}, {}))
        for step in range(5):
            made.append(Row(step))
            assert read(made.path).rows[-1]["step"] == step, "it is there before the caller goes on"
        made.end(End())
    assert len(writes) == 7
    assert all(data.count(b"\n") == 1 and data.endswith(b"\n") for data in writes)


def test_half_a_line_of_a_full_disk_is_taken_back(tmp_path, monkeypatch):
    made = Journal(tmp_path / "a.part")
    made.begin(Header(key(), {}, {}, {}))
    made.append(Row(0))
    real = os.write
    monkeypatch.setattr(journal.os, "write", lambda handle, data: real(handle, data[:9]))
    with pytest.raises(OSError, match="no space left"):
        made.append(Row(1))
    monkeypatch.undo()
    made.append(Row(2))
    assert [row["step"] for row in read(made.path).rows] == [0, 2]


@given(st.integers(1, 400), st.integers(1, 200_000))
def test_what_a_killed_writer_left_is_dropped_once(tmp_path_factory, cut, long):
    path = tmp_path_factory.mktemp("torn") / "a.part"
    with Journal(path) as made:
        made.begin(Header(key(), {}, {}, {}))
        made.append(Row(0))
        made.append(Row(1, reason="x" * long))
    content = path.read_bytes()
    path.write_bytes(content[: -min(cut, long)])
    with Journal(path) as made:
        made.append(Row(2, status="lost"))
    assert [row["step"] for row in read(path).rows] == [0, 2]


def test_a_part_is_a_run_that_was_cut_off_until_it_is_published(tmp_path):
    name = files.final_name(key(), "0" * 8)
    part = tmp_path / f"{name.removesuffix('.jsonl')}.{'a' * 16}.part"
    with Journal(part) as made:
        made.begin(Header(key(), {"given": "p"}, {"given": "s"}, {}, created="2026-02-02"))
        for step in range(2):
            row = Row(step, 0.0, 0.0, {"dg_y": step}, step, {}, {"phi_gap": 1.0, "phi": 1.0})
            row.status = "done" if step else "running"
            made.append(row)
        made.end(End())
    assert [record.status for record in read_folder(tmp_path)] == [CUT]
    data = load(tmp_path)
    assert len(data.looks) == 2, "its rows are shown"
    assert any("cut off" in trouble for trouble in data.troubles)
    (tmp_path / name).write_bytes(part.read_bytes())
    assert [(record.path.name, record.status) for record in read_folder(tmp_path)] == [(name, "done")]


def test_names_of_files(tmp_path):
    long = key("p" * 500, "../../x/evil.py:run(a=1)")
    assert len(long.stem) <= 80 + len("-s0-") + 16
    assert "/" not in long.stem
    assert not key("..", "..").stem.startswith(".")
    machines = {"cpu": "A", "torch": "2", "python": "3.11", "blas": "mkl", "system": "Linux 6.1 x86_64"}
    here = files.place(machines)
    assert len(here) == 8
    assert here == files.place({**machines, "system": "Linux 6.2 x86_64", "load": [1.0], "commit": "x"})
    changes = ({"cpu": "B"}, {"torch": "3"}, {"python": "3.12"}, {"blas": ""}, {"system": "Linux 6.1 aarch64"})
    assert len({here, *(files.place({**machines, **change}) for change in changes)}) == 6
    name = files.final_name(long, here)
    for other in (name, f"{long.stem}-{here}.{'a' * 16}.part", f"{long.stem}-{here}.{'a' * 16}.old.jsonl"):
        assert files.stem_of(other) == long.stem
    assert files.stem_of("notes.jsonl") == files.stem_of(f"{long.stem}-{here}.csv") == ""
    (tmp_path / name).write_text("x")
    assert files.final(tmp_path, long) == files.final(tmp_path, long, here) == tmp_path / name
    assert files.final(tmp_path, long, "0" * 8) is None
    assert files.finals(tmp_path) == {long.stem: [tmp_path / name]}


def test_writers_on_one_folder():
    """The small sibling of the campaign, which makes a hundred rounds."""
    command = [sys.executable, "-m", "tests.campaigns.many_writers", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    sums = json.loads(done.stdout)
    for found in sums.values():
        assert not [what for what in ("damaged", "missing", "changed", "hung", "left") if found[what]], done.stdout
    assert sums["calm"]["twice"] == 0
    assert sums["calm"]["runs"] == 24


def test_halves_of_surrogate_pairs_are_spelled_out(tmp_path):
    """The name of a loose file need not be text."""
    path = write_run(tmp_path, solver="a\udc80.py")
    assert "\\udc80" in dumps(Row(0, reason="\udc80"))
    record = read(path)
    assert not record.troubles
    assert record.header["solver"]["given"] == "a\\udc80.py"
    assert isinstance(load(tmp_path).runs, pd.DataFrame)
