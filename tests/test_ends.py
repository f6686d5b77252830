"""Resuming looks at the ends of files: what it finds there is what the whole file says."""

import json

import pytest

from bilevelbench.measure import manifest
from bilevelbench.measure.manifest import ABSENT, changed
from bilevelbench.store import ends as module
from bilevelbench.store.ends import ends
from bilevelbench.store.files import final_name, finals, finals_of
from bilevelbench.store.journal import read
from tests.results_factory import key, write_run


@pytest.mark.parametrize("status", ["done", "diverged", "error", "lost"])
def test_the_ends_of_a_whole_file_say_what_it_says(tmp_path, monkeypatch, status):
    path = write_run(tmp_path, status=status, files=["/a", "/b"])
    whole = read(path)
    monkeypatch.setattr(module, "read", None)  # it is not asked
    found = ends(path)
    assert (found.header, found.status, found.end, found.mark) == (whole.header, whole.status, whole.end, whole.mark)
    assert found.rows == [json.loads(path.read_text().splitlines()[-2])]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-30],
        lambda text: "",
        lambda text: text.replace('"status":"done"', '"status":"mad"'),
        lambda text: text.replace('"manifest":{', '"manifest":7,"x":{'),
        lambda text: text.replace('"schema":2', '"schema":1'),
        lambda text: text.replace('"schema":2', '"schema":99'),
        lambda text: "\n".join(text.splitlines()[::2]),
        lambda text: text.splitlines()[0] + "\n" + text.splitlines()[-1] + "\n",
        lambda text: "{" + text,
    ],
)
def test_what_is_not_plainly_whole_is_read_as_a_whole(tmp_path, damage):
    path = write_run(tmp_path)
    path.write_text(damage(path.read_text()))
    found, whole = ends(path), read(path)
    assert (found.header, found.rows, found.end, found.troubles) == (
        whole.header, whole.rows, whole.end, whole.troubles,
    )  # fmt: skip


def test_a_part_has_no_final_status(tmp_path):
    path = write_run(tmp_path)
    part = path.rename(path.with_suffix(".part"))
    assert ends(part).status == read(part).status == "cut off"


def test_the_final_files_of_one_key(tmp_path):
    for seed in (1, 11):
        for place in ("a" * 8, "b" * 8):
            (tmp_path / final_name(key(seed=seed), place)).touch()
    (tmp_path / f"{key(seed=1).stem}.jsonl").touch()
    (tmp_path / f"{key(seed=1).stem}-{'c' * 8}.part").touch()
    (tmp_path / f"{key(seed=1).stem}-{'d' * 8}.jsonl").symlink_to(tmp_path / "x")
    for seed in (1, 2, 11):
        assert finals_of(tmp_path, key(seed=seed).stem) == finals(tmp_path).get(key(seed=seed).stem, [])
    assert len(finals_of(tmp_path, key(seed=1).stem)) == 3
    assert finals_of(tmp_path / "none", key().stem) == []


def test_of_many_runs_each_file_is_asked_for_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(manifest, "hash_now", lambda path, missing: asked.append(path) or {"a": "1"}.get(path, missing))
    now = {}
    for _ in range(3):
        assert changed({"a": "1", "b": ABSENT}, False, now) == []
        assert changed({"a": "2", "b": "3"}, False, now) == ["a", "b"]
        assert changed({"a": "2", "b": "3"}, True, now) == ["a"]  # what another machine has need not be here
        assert changed({"b": ABSENT}, True, now) == []
    assert asked == ["a", "b"]
