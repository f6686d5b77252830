"""What is whole of a run's file is read, and what is not is named, line by line."""

import json
import os

import pytest

from bilevelbench.store import journal
from bilevelbench.store.journal import Journal, Record, _lines, read, read_folder, shown
from bilevelbench.store.schema import End, Header, Row, RunKey

KEY = RunKey("p", 1, "s", 0, "cpu", "float64", "eager", 1, 9, None, None, False, "c")
HEADER = Header(KEY, {"given": "p"}, {"given": "s"}, {})


def looks(last="done", n=4):
    return [Row(k, 0.1 * k, 0.1 * k, {"f": k}, k, {}, {"phi": 1.0}, "running" if k < n - 1 else last) for k in range(n)]


@pytest.fixture
def written(tmp_path):
    def make(rows, name="a.jsonl", end=True):
        with Journal(tmp_path / name) as file:
            file.begin(HEADER)
            for row in rows:
                file.append(row)
            if end:
                file.end(End(2))
        return tmp_path / name

    return make


def test_a_whole_file_has_no_troubles(written):
    path = written(looks())
    record = read(path)
    assert record.troubles == []
    assert [row["step"] for row in record.rows] == [0, 1, 2, 3]
    assert (record.status, record.ended, record.fault, record.end["attempts"]) == ("done", "done", "", 2)
    assert record.header["digest"] == KEY.digest
    assert record.mark == read(path).mark != ()


def test_a_file_without_its_last_line_says_so(written):
    record = read(written(looks(), end=False))
    assert record.status == "done"
    assert record.troubles == [f"{record.path} has lost its last line, which says how the run was made"]


@pytest.mark.parametrize("name", ["a.part", "a.jsonl"])
def test_a_run_without_a_final_status_was_cut_off(written, name):
    record = read(written(looks("running"), name, end=False))
    assert (record.status, record.ended, record.fault) == ("cut off", "", "")
    assert "half-written" in record.troubles[0]


def test_what_was_not_published_is_cut_off_however_it_ended(written):
    record = read(written(looks(), "a.part"))
    assert (record.status, record.ended) == ("cut off", "done")


def damaged(path, change):
    lines = path.read_bytes().split(b"\n")
    change(lines)
    path.write_bytes(b"\n".join(lines))
    return read(path)


def test_bad_lines_are_named_by_number_and_left_out(written):
    def spoil(lines):
        lines[2] = b"{"
        lines[4] = b'{"kind":"row","step":-1}'

    record = damaged(written(looks(n=5)), spoil)
    assert [row["step"] for row in record.rows] == [0, 2, 4]
    assert record.troubles == [f"{record.path}: lines 3, 5 are damaged and left out"]
    assert record.end["attempts"] == 2


def test_one_bad_line_and_blank_ones(written):
    record = damaged(written(looks()), lambda lines: lines.__setitem__(slice(2, 3), [b"  ", b"[]", b""]))
    assert record.troubles == [f"{record.path}: line 4 is damaged and left out"]
    assert [row["step"] for row in record.rows] == [0, 2, 3]


def test_a_last_line_without_its_newline_was_being_written(written):
    path = written(looks())
    path.write_bytes(path.read_bytes()[:-5])
    assert read(path).troubles[0] == f"{path}: line 6 is half-written and left out"


def test_rows_out_of_order_are_named(written):
    def swap(lines):
        lines[2], lines[3] = lines[3], lines[2]

    record = damaged(written(looks(n=5)), swap)
    assert record.troubles[0].startswith(f"{record.path}: line ")
    assert "out of order" in record.troubles[0]
    assert [row["step"] for row in record.rows] in ([0, 1, 3, 4], [0, 2, 3, 4])


def test_a_second_last_line_is_damage(written):
    record = damaged(written(looks()), lambda lines: lines.insert(-1, lines[-2].replace(b":2", b":3")))
    assert record.end["attempts"] == 2
    assert record.troubles == [f"{record.path}: line 7 is damaged and left out"]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "line 3 is"), ([3, 4], "lines 3, 4 are"), ([1, 2, 3, 4, 5], "lines 1, 2, 3, 4, 5 are"),
        ([1, 2, 3, 4, 5, 6], "lines 1, 2, 3, 4, 5 and 1 more are"),
    ],
)  # fmt: skip
def test_lines_in_words(numbers, words):
    assert _lines(numbers) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "row"}, "no header in line 1"), ({"schema": 3}, "has schema 3, this version reads 1 and 2"),
        ({"schema": True}, "has schema True"), ({"digest": 1}, "has a damaged header"), (None, "no header in line 1"),
        ({"schema": "x" * 30}, f"has schema {'x' * 20}, this"),
    ],
)  # fmt: skip
def test_what_is_no_header_is_said(written, change, words):
    path = written(looks())
    first, rest = path.read_bytes().split(b"\n", 1)
    header = json.dumps(json.loads(first) | change).encode() if change else b"[]"
    path.write_bytes(header + b"\n" + rest)
    record = read(path)
    assert words in record.troubles[0]
    assert (record.header, record.rows, record.status) == (None, [], "cut off")


def test_a_header_needs_key_problem_and_solver(written):
    path = written(looks())
    for name in ("key", "problem", "solver"):
        first, rest = path.read_bytes().split(b"\n", 1)
        less = {k: v for k, v in json.loads(first).items() if k != name}
        (path.parent / "less.jsonl").write_bytes(json.dumps(less).encode() + b"\n" + rest)
        assert "no header in line 1" in read(path.parent / "less.jsonl").troubles[0]


def test_too_many_lines_are_not_read(written, monkeypatch):
    path = written(looks())
    lines = path.read_bytes().count(b"\n") - 1
    monkeypatch.setattr(journal, "MOST_LINES", lines)
    assert not read(path).troubles
    monkeypatch.setattr(journal, "MOST_LINES", lines - 1)
    assert f"has more than {lines - 1} lines" in read(path).troubles[0]


def test_half_of_a_pair_is_spelled_and_what_is_no_json_is_damage(written):
    def spoil(lines):
        lines[2] = lines[2].replace(b'"status":"running"', b'"status":"running","reason":"a\\ud800"')
        lines[3] = lines[3].replace(b'"phi":1.0', b'"phi":NaN')

    record = damaged(written(looks()), spoil)
    assert record.rows[1]["reason"] == "a\\ud800"
    assert record.troubles == [f"{record.path}: line 4 is damaged and left out"]


def test_a_half_line_is_dropped_before_more_is_written(written, monkeypatch):
    path = written(looks("running"), end=False)
    whole = path.read_bytes()
    for torn in (10, 2**16):
        monkeypatch.setattr(journal, "TORN", torn)
        path.write_bytes(whole + b'{"half": ' + b"x" * 25)
        with Journal(path) as file:
            file.append(looks()[-1])
        assert path.read_bytes().startswith(whole + b'{"kind":"row"')
        assert read(path).ended == "done"
    path.write_bytes(b"x" * 25)
    with Journal(path) as file:
        file.append(looks()[0])
    assert path.read_bytes().startswith(b'{"kind":"row"')


def test_beginning_again_replaces_what_an_earlier_try_left(written):
    path = written(looks("running"), end=False)
    assert read(written(looks())).troubles == []
    assert [row["step"] for row in read(path).rows] == [0, 1, 2, 3]


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(written, monkeypatch):
    path = written(looks("running"), end=False)
    whole, write = path.read_bytes(), os.write
    with Journal(path) as file:
        file._opened()
        monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:7]))
        with pytest.raises(OSError, match="no space left") as raised:
            file.append(looks()[-1])
    assert raised.value.errno == 28
    assert path.read_bytes() == whole


def test_the_first_schema_blames_the_solver_and_has_its_end_in_the_last_row(tmp_path):
    header = {"schema": 1, "header": None}
    for status, fault in [("done", ""), ("unsupported", ""), ("error", "solver"), ("oom", "solver")]:
        assert Record(tmp_path / "a.jsonl", header, [{"status": status}]).fault == fault
    assert Record(tmp_path / "a.jsonl", {"schema": 2}, [{"status": "error", "fault": "problem"}]).fault == "problem"
    assert Record(tmp_path / "a.jsonl", {"schema": 2}, [{"status": "error"}]).fault == ""
    assert Record(tmp_path / "a.jsonl", {"schema": 2}, []).fault == ""


def test_a_folder_is_read_by_name(written, tmp_path):
    written(looks(), "b.jsonl")
    written(looks(), "a.jsonl")
    assert [record.path.name for record in read_folder(tmp_path)] == ["a.jsonl", "b.jsonl"]
    assert shown(tmp_path / "a\x00\n") == f"{tmp_path}/a\ufffd\ufffd"
