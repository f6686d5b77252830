"""Resuming looks at the ends of files: what it finds there is what the whole file says."""

import pytest

from bilevelbench.measure import changed
from bilevelbench.measure.changed import Files
from bilevelbench.measure.manifest import ABSENT
from bilevelbench.store import ends as module
from bilevelbench.store.ends import ends, is_foreign
from bilevelbench.store.files import final_name, finals, finals_of
from bilevelbench.store.journal import read
from tests.results_factory import key, write_run


def stands(record):
    """What a header says of whether its run stands."""
    header = record.header
    return header["schema"], header.get("timeout"), header["environment"].get("place", "")


@pytest.mark.parametrize("status", ["done", "diverged", "error", "lost"])
@pytest.mark.parametrize("timeout", ["null", "5", "2.5"])
@pytest.mark.parametrize("place", ["", '"place":"0123abcd",'])
def test_the_ends_of_a_whole_file_say_what_it_says(tmp_path, monkeypatch, status, timeout, place):
    path = write_run(tmp_path, status=status, files=["/a", "/b"])
    text = path.read_text().replace('"timeout":60.0', f'"timeout":{timeout}')
    path.write_text(text.replace('"environment":{', f'"environment":{{{place}'))
    whole = read(path)
    monkeypatch.setattr(module, "read", None)  # it is not asked
    found = ends(path)
    assert (found.status, found.fault, found.end, found.mark) == (whole.status, whole.fault, whole.end, whole.mark)
    assert stands(found) == stands(whole)
    assert [row["status"] for row in found.rows] == [status]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-30],
        lambda text: "",
        lambda text: text.replace('"status":"done"', '"status":"mad"'),
        lambda text: text.replace('"manifest":{', '"manifest":7,"x":{'),
        lambda text: text.replace('"schema":2', '"schema":1'),
        lambda text: text.replace('"environment":{', '"environment":7,"x":{'),
        lambda text: text.replace('"environment":{', '"environment":{"place":7,'),
        lambda text: text.replace('"timeout":', '"timeout":"9","x":'),
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
    monkeypatch.setattr(changed, "hash_now", lambda path, missing: asked.append(path) or {"a": "1"}.get(path, missing))
    now, same, other = Files(), {"a": "1", "b": ABSENT}, {"a": "2", "b": "3"}
    for _ in range(3):
        assert now.changed(same) == now.changed(dict(same)) == []
        assert now.changed(other) == now.changed(dict(other)) == ["a", "b"]
        assert now.changed(other, True) == ["a"]  # what another machine has need not be here
        assert now.changed({"b": ABSENT}, True) == []
    for number in range(2 * changed.TOLD):  # more than are held
        assert now.changed({"a": str(number)}) == ([] if number == 1 else ["a"])
    assert asked == ["a", "b"]


def test_of_a_long_file_its_ends_are_read(tmp_path, monkeypatch):
    path = write_run(tmp_path, gaps=tuple(1 / (k + 1) for k in range(400)), files=["/a"])
    whole = read(path)
    assert path.stat().st_size > 2 * module.END
    found = ends(path)
    assert (found.end, found.mark, found.status, len(found.rows)) == (whole.end, whole.mark, "done", 1)
    assert stands(found) == stands(whole)
    for name, size in (("END", 100), ("BEGIN", 100), ("END", 400)):  # what is longer than that is read as a whole
        with monkeypatch.context() as patch:
            patch.setattr(module, name, size)
            assert (ends(path).status, stands(ends(path))) == (whole.status, stands(whole))


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        (None, ""), ("", ""), ("x", "no header in line 1"), ('{"kind":"header","schema":3,"digest":"', "no header"),
        (("schema\":2", "schema\":3"), "has schema 3"), (("schema\":2", "schema\":1"), ""),
        (("\"digest\":\"", "\"digest\":7,\"a\":\""), "has a damaged header"),
        (("\"key\":{", "\"key\":{\"seed\":-1,"), ""),
    ],
)  # fmt: skip
def test_what_is_foreign(tmp_path, text, foreign):
    """The last of these is ours and damaged: it is replaced when its run is asked for, as one that is cut off is."""
    path = write_run(tmp_path)
    if text is not None:
        path.write_text(text if isinstance(text, str) else path.read_text().replace(*text, 1))
    assert (foreign in is_foreign(path)) if foreign else is_foreign(path) == ""


def test_no_file_is_not_foreign(tmp_path):
    assert is_foreign(tmp_path / "none.jsonl") == ""
