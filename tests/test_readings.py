"""What a manifest makes of readings, one by one."""

import json
import os

import pytest

from bilevelbench.measure import manifest as module
from bilevelbench.measure.changed import changed
from bilevelbench.measure.manifest import ABSENT, MIXED, _path, _settled, _unchanged
from bilevelbench.measure.stamps import hash_of, mark_of
from tests.forked import forked


def settled(*notes):
    return dict(_settled(iter(notes)))


def test_readings_that_agree_have_a_digest_and_others_none():
    assert settled(("/a", "loaded", "1"), ("/a", "loaded", "1")) == {"/a": "1"}
    assert settled(("/a", "loaded", "1"), ("/a", "loaded", "2")) == {"/a": MIXED}
    assert settled(("/a", "read", [[1, 2, 3, 4], "1"])) == {"/a": "1"}
    assert settled(("/a", "read", [[1], "1"]), ("/a", "read", [[1], "2"])) == {"/a": MIXED}
    assert settled(("/a", "loaded", "1"), ("/a", "read", [[1], "2"])) == {"/a": "1"}  # a traceback looks later
    assert settled(("/a", "missed", None)) == {"/a": ABSENT}
    assert settled(("/a", "missed", None), ("/a", "read", [[1], "1"])) == {"/a": MIXED}
    assert settled(("/a", "missed", None), ("/a", "loaded", "1")) == {"/a": "1"}
    assert settled() == {}


def test_what_a_run_makes_is_its_own_from_then_on():
    made, inside = ("/a", "made", None), ("/made/", "made", None)
    assert settled(made, ("/a", "read", [[1], "1"])) == {}
    assert settled(("/a", "read", [[1], "1"]), made) == {"/a": "1"}
    assert settled(("/a", "missed", None), made) == {}
    assert settled(inside, ("/made/b", "read", [[1], "1"]), ("/made/c", "missed", None)) == {}
    assert settled(made, ("/ab", "read", [[1], "1"])) == {"/ab": "1"}


def test_a_digest_that_was_not_taken_at_once_stands_while_the_mark_does(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")
    mark = mark_of(os.stat(file))
    digest = hash_of(str(file))
    assert settled((str(file), "read", [mark, None])) == {str(file): digest}
    assert settled((str(file), "read", [mark, None]), (str(file), "read", [mark, digest])) == {str(file): digest}
    file.write_text("yy")
    assert _unchanged(str(file), mark) == MIXED
    file.unlink()
    assert _unchanged(str(file), mark) == MIXED


def test_what_has_changed_is_named_and_of_another_machine_what_is_here(tmp_path):
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.write_text("x")
    manifest = {str(here): hash_of(str(here)), str(gone): "0"}
    assert changed(manifest) == [str(gone)]
    assert changed(manifest, elsewhere=True) == []
    here.write_text("y")
    assert changed(manifest, elsewhere=True) == [str(here)]
    assert changed({str(gone): ABSENT}) == []
    assert changed({str(here): ABSENT}) == [str(here)]
    assert changed({}) == []


def test_paths_of_what_is_opened():
    assert _path("/a/../b") == "/b"
    assert _path(b"/a") == "/a"
    assert _path("a") == os.path.abspath("a")
    for given in (3, None):
        with pytest.raises(TypeError):
            _path(given)


def heard(work):
    """The notes that a fresh manifest of another process takes of some work, what was loaded before left out."""

    def run():
        made = module.Manifest()
        made._known.clear()
        before = len(list(made._notes()))
        work(made)
        return list(made._notes())[before:]

    return json.loads(json.dumps(forked(run)))


def test_events_are_noted_by_what_they_do(tmp_path):
    file, nowhere = tmp_path / "a.txt", tmp_path / "none"
    file.write_text("x")
    fresh, folder = tmp_path / "fresh", tmp_path / "folder"

    def work(made):
        made.hear("open", (str(file), "r", os.O_RDONLY))
        made.hear("open", (str(nowhere), "r", os.O_RDONLY))
        made.hear("open", (str(fresh), "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        made.hear("os.rename", (str(tmp_path / "b"), str(tmp_path / "c"), -1, -1))
        made.hear("os.mkdir", (str(folder), 0o777, -1))
        made.hear("os.mkdir", (str(tmp_path), 0o777, -1))  # it is there
        made.hear("open", (3, "r", 0))
        made.hear("open", (os.__file__, "r", os.O_RDONLY))

    notes = {(path, how): what for path, how, what in heard(work)}
    digest = hash_of(str(file))
    assert notes.pop((str(file), "read"))[1] == digest  # it is young
    assert notes == {
        (str(nowhere), "missed"): None, (str(fresh), "made"): None, (str(tmp_path / "c"), "made"): None,
        (f"{folder}{os.sep}", "made"): None,
    }  # fmt: skip


def test_libraries_and_databases_are_noted_where_they_are(tmp_path):
    base, library, extension = tmp_path / "base.db", tmp_path / "lib.so", tmp_path / "ext.so"
    for file in (base, library, extension):
        file.write_text(file.name)

    def work(made):
        made.hear("sqlite3.connect", (str(base),))
        made.hear("ctypes.dlopen", (str(library),))
        made.hear("import", ("ext", str(extension), None, None, None))
        made.hear("import", ("plain", None, None, None, None))
        made.hear("sqlite3.connect", (":memory:",))

    assert {(path, how) for path, how, _ in heard(work)} == {(str(file), "read") for file in (base, library, extension)}


def test_a_file_that_is_read_and_written_is_both(tmp_path):
    file, old = tmp_path / "a", tmp_path / "old"
    file.write_text("x")
    old.write_text("y")
    os.utime(old, (1, 1))

    def work(made):
        made.hear("open", (str(file), "r+", os.O_RDWR))
        made.hear("open", (str(tmp_path / "new"), "w+", os.O_RDWR | os.O_CREAT))
        made.hear("open", (str(tmp_path / "cut"), "w+", os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        made.hear("open", (str(tmp_path), "r", os.O_RDONLY))
        made._busy.now = True
        made.hear("open", (str(old), "r", os.O_RDONLY))

    notes = [(path, how) for path, how, _ in heard(work)]
    assert notes == [
        (str(file), "read"), (str(file), "made"), (str(tmp_path / "new"), "made"), (str(tmp_path / "cut"), "made"),
    ]  # fmt: skip


def test_one_reading_is_noted_once(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")

    def work(made):
        for _ in range(3):
            made.hear("open", (str(file), "r", os.O_RDONLY))

    assert len(heard(work)) == 1
