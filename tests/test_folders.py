"""What is said of a results folder, and results that are published and travel from machine to machine."""

import hashlib
import json
import re
import shutil
import sys

import pandas as pd
import pytest
from click.testing import CliRunner

import bilevelbench as bb
from bilevelbench.cli import cli
from bilevelbench.core.errors import RequestError
from bilevelbench.run.drive import make_folder
from bilevelbench.run.on import plan
from bilevelbench.run.plan import unfinished
from bilevelbench.store.claims import Claims
from bilevelbench.store.files import final_name, finals
from bilevelbench.store.journal import read
from bilevelbench.store.schema import CUT
from bilevelbench.store.status import TAIL, last_status
from tests.results_factory import key, write_run
from tests.test_cli import here
from tests.test_handing import jobs_of


def on(cpu, place, path, folder):
    """A run as another machine made it, in its folder, under its name there."""
    head, _, rest = path.read_text().partition("\n")
    header = json.loads(head)
    header["environment"] |= {"cpu": cpu, "place": place, "bilevelbench": "1.0"}
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{path.name.removesuffix('.jsonl')}-{place}.jsonl"
    made.write_text(json.dumps(header) + "\n" + rest)
    return made


@pytest.mark.parametrize("status", ["done", "diverged", "error", "timeout", "oom", "unsupported", "lost", CUT])
@pytest.mark.parametrize("files", [0, 600])
def test_the_end_of_a_file_says_how_its_run_ended(tmp_path, status, files):
    path = write_run(tmp_path, status=status, files=[f"/a/long/path/of/a/module/{k}" for k in range(files)])
    assert (path.stat().st_size > TAIL) == (bool(files) and status != CUT)
    assert last_status(path) == read(path).status


def test_what_is_no_record_has_no_status(tmp_path):
    for text in ("", "\n", "{}\n", '{"kind":"end"}\n', '{"kind":"row","status":"mad"}\n', '{"kind":"row"}\n'):
        (tmp_path / "x.jsonl").write_text(text)
        assert last_status(tmp_path / "x.jsonl") == CUT
    assert last_status(tmp_path / "none.jsonl") == CUT


def test_the_status_of_a_folder(tmp_path):
    jobs = jobs_of(tmp_path, range(6))
    plan.write(tmp_path, jobs)
    for seed, status in enumerate(("done", "done", "error")):
        write_run(tmp_path, seed=seed, status=status).rename(tmp_path / final_name(key(seed=seed), "0" * 8))
    with Claims(tmp_path) as claims:
        claims.take(jobs[4].key.stem)
        (tmp_path / f".claim-{jobs[5].key.stem}.0").write_text("0" * 16)
        found = bb.status(tmp_path)
    assert (found.planned, found.left, found.finished) == (6, 3, 3)
    assert found.statuses == {"done": 2, "error": 1}
    assert found.failed == {"error": [jobs[2].key.stem]}
    assert [(one.stem, one.gone) for one in found.making] == [(jobs[4].key.stem, False), (jobs[5].key.stem, True)]
    first, *lines = str(found).splitlines()
    assert first.endswith("3 finished (2 done, 1 error), 1 under way; 3 of 6 planned are left")
    assert any(jobs[5].key.stem in line and "its maker is gone" in line for line in lines)
    assert lines[-1].strip() == f"{jobs[2].key.stem}: error"


def test_a_folder_of_a_newer_version_is_refused_in_a_sentence(tmp_path, monkeypatch, capfd):
    path = write_run(tmp_path / "results")
    path = path.rename(path.with_name(final_name(key(), "0" * 8)))
    path.write_text(path.read_text().replace('"schema":2', '"schema":3', 1))
    before = path.read_bytes()
    words = r"has schema 3, this version reads 1 and 2: read it with the bilevelbench that wrote it"
    for call in (bb.status, bb.load, lambda folder: bb.publish(folder, tmp_path / "site")):
        with pytest.raises(RequestError, match=words):
            call(tmp_path / "results")
    for command in (["status"], ["report"]):
        code, out, said = here([*command, str(tmp_path / "results")], tmp_path, monkeypatch, capfd)
        assert (code, out) == (2, "")
        assert "has schema 3" in said
        assert said.count("\n") == 1
    with pytest.raises(RequestError, match=words):
        make_folder(tmp_path / "results")
    assert path.read_bytes() == before
    (job,) = jobs_of(tmp_path / "results", [0])
    with pytest.raises(RequestError, match="has schema 3"):
        unfinished([job])


def test_what_is_no_finished_run_is_refused_under_the_name_of_a_planned_one(tmp_path):
    """The finished files of planned runs are left to ``unfinished``: between them the two look at everything."""
    (job,) = jobs_of(tmp_path, [0])
    path, made = tmp_path / final_name(job.key, "0" * 8), write_run(tmp_path / "made")
    path.write_text(made.read_text().replace('"schema":2', '"schema":3', 1))
    make_folder(tmp_path, {job.key.stem})
    with pytest.raises(RequestError, match="has schema 3"):
        unfinished([job])
    path.unlink()
    path.symlink_to(made)
    assert not finals(tmp_path)
    with pytest.raises(RequestError, match="symbolic link"):
        make_folder(tmp_path, {job.key.stem})


def test_a_folder_without_a_plan_and_none_at_all(tmp_path):
    assert str(bb.status(tmp_path)).endswith("0 finished (none), 0 under way")
    with pytest.raises(RequestError, match=r"there is no results folder .*none"):
        bb.status(tmp_path / "none")


def test_folders_of_several_machines_are_one_table_and_copying_them_together_loses_nothing(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for seed in (0, 1):
        path = write_run(tmp_path / "made", seed=seed)
        for folder in folders:
            on(folder.name, folder.name * 8, path, folder)
    together = tmp_path / "together"
    for folder in folders:
        shutil.copytree(folder, together, dirs_exist_ok=True)
    several, one = bb.load(*folders), bb.load(together)
    assert len(several.runs) == len(one.runs) == 6
    assert several.leaders().equals(one.leaders())


def test_what_is_published_holds_reports_records_tables_and_digests(tmp_path):
    mine = on("m", "a" * 8, write_run(tmp_path / "made"), tmp_path / "mine")
    site = tmp_path / "site"
    index = bb.publish(tmp_path / "mine", site, brief=True)
    (folder,) = site.glob("test/*")
    assert folder.name == "1.0-abc"
    assert f'href="test/{folder.name}/index.html"' in index.read_text()
    assert (folder / "records" / mine.name).read_bytes() == mine.read_bytes()
    assert len(pd.read_parquet(folder / "parquet" / "runs.parquet")) == 1
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {"index.html", f"records/{mine.name}", "parquet/runs.parquet"} <= set(sums)
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    # another machine adds its own, or reads what is there beside it
    theirs = on("n", "b" * 8, write_run(tmp_path / "made"), tmp_path / "theirs")
    assert len(bb.load(folder / "records", tmp_path / "theirs").runs) == 2
    bb.publish(tmp_path / "theirs", site, brief=True)
    assert {path.name for path in (folder / "records").iterdir()} == {mine.name, theirs.name}
    assert "n, 2 cores" in index.read_text()


def test_what_is_not_published_is_named(tmp_path):
    here = tmp_path / "here"
    on("m", "a" * 8, write_run(tmp_path / "made"), here)
    other = on("n", "b" * 8, write_run(tmp_path / "made"), here)
    other.write_text(re.sub(r'"schema": ?\d', '"schema":9999', other.read_text(), count=1))
    with pytest.warns(UserWarning, match=f"not published: .*{other.name} has schema 9999"):
        index = bb.publish(here, tmp_path / "site", brief=True)
    assert len(list(index.parent.glob("*/*/records/*"))) == 1
    done = CliRunner().invoke(cli, ["publish", str(here), "-o", str(tmp_path / "site"), "--brief"])
    assert done.exit_code == 2
    assert f"site: {index}" in done.output
    assert f"{other.name} has schema 9999" in done.output


def test_what_cannot_be_published_is_said(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="there is no results folder"):
        bb.publish(tmp_path / "none", tmp_path / "site")
    write_run(tmp_path / "cut", status="cut off")
    with pytest.raises(RequestError, match="no finished result to publish"):
        bb.publish(tmp_path / "cut", tmp_path / "site")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"publish needs pyarrow: pip install 'bilevelbench\[parquet\]'"):
        bb.publish(tmp_path / "cut", tmp_path / "site")
