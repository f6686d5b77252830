"""The files of a results folder: names, marks, and what is opened."""

import os
import re

import pytest

from bilevelbench.store import files
from bilevelbench.store.files import Unreadable
from bilevelbench.store.schema import RunKey

KEY = RunKey("quadratic(d=3)", 1, "bome(lr=0.1)", 4, "cpu", "float64", "eager", 1, 10, None, None, False, "c")
ENVIRONMENT = {"cpu": "c", "torch": "t", "python": "p", "blas": "b", "gpu": "g", "cuda": "u", "system": "Linux 6 x86"}


@pytest.mark.parametrize("name", [*ENVIRONMENT])
def test_a_place_is_told_by_each_part(name):
    here = files.place(ENVIRONMENT)
    assert re.fullmatch("[0-9a-f]{8}", here)
    assert files.place(ENVIRONMENT | {name: "other"}) != here
    assert files.place(ENVIRONMENT | {"system": "Linux 7 x86", "load": 3}) == here  # the kernel may be updated
    assert files.place({}) == files.place({"cpu": None})


def test_names_and_stems():
    name = files.final_name(KEY, "0123abcd")
    assert name == f"{KEY.stem}-0123abcd.jsonl"
    assert files.stem_of(name) == KEY.stem
    assert files.stem_of(f"{KEY.stem}.jsonl") == KEY.stem
    assert files.stem_of(f"{KEY.stem}-0123abcd.aaaa.part") == KEY.stem
    assert files.stem_of(f"{KEY.stem}-0123abcd.txt") == ""
    assert files.stem_of("notes.jsonl") == ""


def test_finals_are_plain_files_with_a_stem(tmp_path):
    here, there = (tmp_path / files.final_name(KEY, place) for place in ("00000000", "11111111"))
    there.write_text("x")
    here.write_text("x")
    (tmp_path / "notes.jsonl").write_text("x")
    (tmp_path / f"{KEY.stem}-0123abcd.a.part").write_text("x")
    (tmp_path / files.final_name(KEY, "22222222")).symlink_to(here)
    (tmp_path / files.final_name(KEY, "33333333")).mkdir()
    assert files.finals(tmp_path) == {KEY.stem: [here, there]}
    assert files.finals(tmp_path / "nowhere") == {}
    assert files.final(tmp_path, KEY) == here
    assert files.final(tmp_path, KEY, "11111111") == there
    assert files.final(tmp_path, KEY, "44444444") is None
    assert files.final(tmp_path, KEY, "22222222") is None
    assert files.final(tmp_path / "nowhere", KEY) is None
    assert not files.is_plain(tmp_path)
    assert not files.is_plain(tmp_path / "nothing")


def test_records_are_final_files_and_parts_without_one_here_and_one_level_below(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "a.token.part", "c.token.part", "x.txt"):
        (tmp_path / name).write_text("x")
    for folder in ("machine", ".hidden", "machine/deep"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.jsonl").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "machine")
    names = [str(path.relative_to(tmp_path)) for path in files.records(tmp_path)]
    assert names == ["a.jsonl", "b.jsonl", "c.token.part", "machine/d.jsonl"]


def test_a_mark_stays_through_a_renaming_and_tells_another_file(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("x")
    mark = files.mark(one)
    one.rename(other)
    assert files.mark(other) == mark
    assert files.content(other) == (mark, b"x")
    one.write_text("x")
    assert files.mark(one) != mark
    os.utime(other, ns=(1, 1))
    assert files.mark(other) != mark
    found = os.lstat(other)
    assert files.mark(other) == (found.st_dev, found.st_ino, 1, 1)


def test_content_is_bounded_and_of_plain_files_only(tmp_path):
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"x" * 10)
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert files.content(file, 10)[1] == b"x" * 10
    with pytest.raises(Unreadable, match="is larger than 0 MiB"):
        files.content(file, 9)
    with pytest.raises(Unreadable, match="is a symbolic link"):
        files.content(link)
    for odd in (pipe, tmp_path):
        with pytest.raises(Unreadable, match="is no plain file"):
            files.content(odd)
    with pytest.raises(Unreadable, match="cannot be read"):
        files.content(tmp_path / "nothing")
    file.write_bytes(b"")
    os.truncate(file, files.MOST_BYTES + 1)
    with pytest.raises(Unreadable, match="is larger than 256 MiB"):
        files.content(file)


def test_a_file_is_created_once(tmp_path):
    path = tmp_path / "file"
    os.close(files.create(path))
    with pytest.raises(FileExistsError):
        files.create(path)
    handle = files.create(tmp_path / "log", os.O_APPEND)
    os.write(handle, b"ab")
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, b"c")
    os.close(handle)
    assert (tmp_path / "log").read_bytes() == b"abc"


def test_what_is_written_takes_the_place_of_what_was_there_or_leaves_it(tmp_path):
    path, target = tmp_path / "file", tmp_path / "target"
    target.write_text("target")
    path.symlink_to(target)
    with files.written(path) as private:
        private.write_text("new")
        assert path.read_text() == "target"
    assert not path.is_symlink()
    assert (path.read_text(), target.read_text()) == ("new", "target")

    def fails():
        with files.written(path) as private:
            private.write_text("half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fails()
    assert path.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [path, target]


def test_a_folder_that_is_a_link_is_not_written_to(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic link") as raised:
        files.make_folder(tmp_path / "link")
    assert raised.value.errno == 20
