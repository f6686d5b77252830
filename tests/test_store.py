"""Journals: what is whole is read, what is not is named, and nothing written is lost."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.store.frame import load
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import CUT, End, Row, dumps
from tests.results_factory import key, write_run


def test_a_run_is_read_back(tmp_path):
    record = read(write_run(tmp_path))
    assert not record.troubles
    assert record.status == "done"
    assert [row["metrics"]["phi_gap"] for row in record.rows] == [1.0, 0.05, 1e-5]
    assert record.header["digest"] == record.path.stem[-16:]


@given(st.integers(1, 2000))
def test_a_file_cut_anywhere_gives_its_whole_lines_and_a_sentence(tmp_path_factory, cut):
    path = write_run(tmp_path_factory.mktemp("cut"))
    content = path.read_bytes()
    cut = min(cut, len(content) - 1)
    path.write_bytes(content[:-cut])
    record = read(path)
    kept = content[:-cut].decode().split("\n")
    whole = [json.loads(line)["kind"] for line in kept[1:] if line and _is_json(line)]
    assert len(record.rows) == whole.count("row")
    if "end" in whole:  # only the last newline was lost
        assert not record.troubles
    else:
        assert record.troubles
        assert all(str(path) in trouble and ". " not in trouble for trouble in record.troubles)
        assert record.header is None or record.status == (CUT if whole.count("row") < 3 else "done")


def _is_json(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_appending_after_a_half_written_line_drops_that_line(tmp_path):
    path = write_run(tmp_path, status="cut off")
    with path.open("a") as file:
        file.write('{"kind":"row","st')
    with Journal(path) as journal:
        journal.append(Row(2, status="timeout", reason="late"))
        journal.end(End())
    record = read(path)
    assert not record.troubles
    assert record.status == "timeout"
    assert len(record.rows) == 4


@pytest.mark.parametrize("text", ["", "hello\n", "[1, 2]\n", '{"kind": "header"}\n', '{"a": NaN}\n', "\x00\n"])
def test_foreign_files_are_named(tmp_path, text):
    path = tmp_path / "notes.jsonl"
    path.write_text(text)
    record = read(path)
    assert record.header is None
    assert str(path) in record.troubles[0]


def test_another_schema_is_named(tmp_path):
    path = write_run(tmp_path)
    path.write_text(path.read_text().replace('"schema":2', '"schema":99', 1))
    assert "schema 99" in read(path).troubles[0]


@given(st.floats())
def test_lines_are_strict_json(value):
    line = dumps(Row(1, metrics={"phi": value}))
    back = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in a line"))["metrics"]["phi"]
    assert back == value if math.isfinite(value) else back is None


def test_digests_are_stable():
    """A key's digest is a promise: it names files on disk."""
    assert key().digest == "98fc586f4f90c6ae"
    changed = {
        dataclasses.replace(key(), **{name: value}).digest
        for name, value in [("seed", 1), ("steps", 11), ("code", "d")]
    }
    assert len(changed | {key().digest}) == 4


def test_labels_tell_specs_apart(tmp_path):
    write_run(tmp_path, solver="bome", knobs={"lr": 0.1, "T": 5})
    write_run(tmp_path, solver="bome", knobs={"lr": 0.2, "T": 5})
    write_run(tmp_path, solver="bome", knobs={"lr": 0.1, "T": 5}, choices={"phi": "gap"})
    write_run(tmp_path, solver="itd")
    runs = load(tmp_path).runs
    assert sorted(runs["solver"]) == ["bome[lr=0.1]", "bome[lr=0.2]", "bome[phi=gap]", "itd"]


def test_results_of_older_code_do_not_stand_beside_those_of_newer(tmp_path):
    path = write_run(tmp_path, gaps=(1.0, 0.5))
    text = path.read_text().replace('"code":"c"', '"code":"older"').replace("2026-01-01", "2025-01-01")
    (tmp_path / "older.jsonl").write_text(text.replace(path.stem[-16:], "0" * 16))
    data = load(tmp_path)
    assert data.superseded == 1
    assert list(data.runs["run"]) == [path.stem[-16:]]


def test_mixed_budgets_are_told_apart(tmp_path):
    for steps in (10, 20):
        path = write_run(tmp_path)
        text = path.read_text().replace('"steps":10', f'"steps":{steps}').replace(path.stem[-16:], f"{steps:016d}")
        path.unlink()
        (tmp_path / f"{steps}.jsonl").write_text(text)
    write_run(tmp_path, problem="other")
    assert sorted(load(tmp_path).runs["problem"]) == ["other", "quadratic, 10 steps", "quadratic, 20 steps"]


def test_an_empty_folder_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no bilevelbench result"):
        load(tmp_path)
