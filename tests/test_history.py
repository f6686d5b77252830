"""Figures over commits: what asv, pytest-benchmark and runs have kept, where it changed, and its pages."""

import itertools
import json
import math
import os
import re
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.core.errors import RequestError
from bilevelbench.report.history import write
from bilevelbench.stats.changes import _ends, changes
from bilevelbench.store import history
from tests import results_factory

COMMITS = [f"{k:02d}" * 20 for k in range(10)]


# -- changes


@given(st.integers(2, 20), st.integers(2, 20), st.floats(1.05, 3), st.booleans())
def test_every_change_of_an_exact_figure_is_found(before, after, ratio, up):
    factor = ratio if up else 1 / ratio
    (found,) = changes(np.array([100.0] * before + [100.0 * factor] * after))
    assert found.place == before
    assert found.ratio == pytest.approx(factor)
    assert found.low == pytest.approx(found.high)


def test_the_last_commit_counts_where_a_figure_is_exact():
    assert [change.place for change in changes(np.array([7.0, 7, 7, 7, 8]))] == [4]


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_change_and_what_stands_out_of_it_is(seed):
    rng = np.random.default_rng(seed)
    noise = np.exp(0.05 * rng.normal(size=40))
    assert not changes(noise)
    noise[20:] *= 1.3
    (change,) = changes(noise)
    assert change.place == 20
    assert abs(math.log(change.ratio / 1.3)) < 0.1
    assert change.low < change.ratio < change.high


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.integers(1, 2), st.floats(0.001, 1))
def test_parts_are_those_of_the_least_cost(values, size, penalty):
    """Held to all ways of dividing a few points."""

    def cost(cuts):
        return sum(np.var(values[a:b]) * (b - a) + penalty for a, b in itertools.pairwise(cuts))

    n = len(values)
    ways = [(0, *cuts, n) for k in range(n) for cuts in itertools.combinations(range(1, n), k)]
    least = min(cost(cuts) for cuts in ways if min(np.diff(cuts)) >= size)
    found = (0, *_ends(np.array(values), size, penalty))
    assert min(np.diff(found)) >= size
    assert cost(found) == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan"), 2.0], [0.0, 1.0, 1.0], [5.0] * 9])
def test_what_has_no_change_has_none(values):
    assert changes(np.array(values)) == []


# -- sources


def asv(folder, figures, version=2):
    """Results as asv writes them: a file per commit, figures[solver][k] at commit k."""
    (folder / "box").mkdir(parents=True)
    told = {"param_names": ["problem", "solver"], "unit": "calls", "version": "1"}
    (folder / "benchmarks.json").write_text(json.dumps({"exact.Calls.track": told, "version": 2}))
    for k, commit in enumerate(COMMITS[: len(next(iter(figures.values())))]):
        packed = [[figures[name][k] for name in figures], [["'quadratic'"], [repr(name) for name in figures]], "1"]
        content = {"commit_hash": commit, "date": 1_700_000_000_000 + 86_400_000 * k, "params": {"machine": "box"},
                   "result_columns": ["result", "params", "version"], "results": {"exact.Calls.track": packed},
                   "version": version}  # fmt: skip
        (folder / "box" / f"{commit[:8]}.json").write_text(json.dumps(content))
    (folder / "box" / "machine.json").write_text("{}")
    return folder


def benchmark(path, k, median, calls):
    extra = {"solver": "bome", "problem": "quadratic", "calls": calls, "interval": [1.2, 1.1, 1.3]}
    stats = {"median": median, "q1": median, "q3": median}
    bench = {"name": "test_steps[bome]", "fullname": "t", "stats": stats, "extra_info": extra}
    content = {"benchmarks": [bench], "machine_info": {"python_version": "3.11", "identity": {"cpu": "c", "cores": 2}},
               "commit_info": {"id": COMMITS[k], "time": f"2024-01-{k + 1:02d}T00:00:00+00:00"},
               "datetime": "2024-01-01T00:00:00", "version": "5.1"}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_all_that_is_kept_is_one_table(tmp_path):
    kept = asv(tmp_path / "asv", {"bome": [13, 13, 14], "itd": [21, None, 21]})
    for k in range(3):
        benchmark(tmp_path / "saved" / "Linux" / f"{k}.json", k, 0.001 * (1 + k), 13)
    table = history.read([kept, tmp_path / "saved"])
    assert set(table["source"]) == {"asv", "pytest-benchmark"}
    assert len(table[table["source"] == "asv"]) == 5, "what a commit lacks is no figure"
    calls = table[table["unit"] == "calls"]
    assert set(calls["machine"]) == {""}, "counts are the same on every machine"
    assert set(table[table["unit"] == "s"]["machine"]) == {"c, 2, 3.11"}
    ratio = table[table["unit"] == "ratio"].iloc[0]
    assert [ratio[name] for name in ("value", "low", "high")] == [1.2, 1.1, 1.3]
    assert list(table["when"]) == sorted(table["when"])


def test_runs_of_a_commit_are_figures_of_it(tmp_path):
    path = results_factory.write_run(tmp_path, solver="bome")
    table = history.read([tmp_path])
    assert set(table["commit"]) == {"abc"}
    assert set(table["figure"]) == {"run, calls a step", "run, peak bytes"}
    path.write_text(path.read_text().replace('"dirty":false', '"dirty":true'))
    with pytest.raises(ValueError, match="no figure of a commit"):
        history.read([tmp_path])  # no commit has made it


def baseline(path, *contents):
    """A gate's baseline, committed once for each content."""
    path.parent.mkdir(parents=True)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-C", str(path.parent)]
    subprocess.run([*git, "init", "-q"], check=True)
    for k, content in enumerate(contents):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        subprocess.run([*git, "add", path.name], check=True)
        when = {"GIT_COMMITTER_DATE": f"2024-01-{k + 1:02d}T00:00:00+00:00"}
        subprocess.run([*git, "commit", "-q", "-m", str(k)], check=True, env=os.environ | when)
    return path


def accepted(calls, schema=2, operations=0):
    costs = {"calls": {"dg_y": calls, "df": 3}, "passes": {"forward": calls}, "own_bytes": 64, "ratio": [1.2, 1.1, 1.4],
             "own_operations": operations}  # fmt: skip
    return {"schema": schema, "solvers": {"bome": costs, "bome on ridge": costs}, "versions": {}}


def test_a_gate_s_baseline_has_the_history_that_git_knows_of_it(tmp_path):
    known = [accepted(calls, operations=k) for k, calls in enumerate((6, 6, 6, 9))]
    path = baseline(tmp_path / "repository" / "gate.json", accepted(5, schema=1), "no JSON", *known)
    table = history.read([path])
    assert set(table["source"]) == {"gate"}
    assert set(table["problem"]) == {"", "ridge"}
    calls = table[(table["figure"] == "gate, calls") & (table["problem"] == "ridge")]
    assert list(calls["value"]) == [9, 9, 9, 12], "what another schema held is left out"
    ratio = table[table["unit"] == "ratio"].iloc[0]
    assert [ratio[name] for name in ("value", "low", "high")] == [1.2, 1.1, 1.4]
    assert "1.33" in write([path], tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "git has no history of"),
        ({"schema": 7, "solvers": {}, "versions": {}}, "schema 7 of the gate's baseline"),
    ],
)
def test_a_baseline_without_a_history_is_one_sentence(tmp_path, content, words, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(content or accepted(5)))
    with pytest.raises(RequestError, match=words):
        write([path], tmp_path / "out")
    if content is None:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        with pytest.raises(RequestError, match=r"git has no history of|is in no commit"):
            write([path], tmp_path / "out")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RequestError, match="there is no git here"):
            write([path], tmp_path / "out")


def test_the_pages_name_the_commit_and_ask_for_nothing(tmp_path):
    kept = asv(tmp_path / "asv", {"bome": [13.0] * 5 + [14.0] * 5, "itd": [21.0] * 10})
    index = write([kept], tmp_path / "out")
    pages = sorted(path.name for path in index.parent.glob("*.html"))
    assert pages == ["000-bome.html", "001-itd.html", "index.html"]
    text = index.read_text()
    assert COMMITS[5][:10] in text
    assert ">1.08<" in text
    assert "1 change over commits" in text
    assert "0 changes over commits" in (index.parent / "001-itd.html").read_text()
    for page in pages:
        for link in re.findall(r'(?:src|href)="([^"#]+)"', (index.parent / page).read_text()):
            assert (index.parent / link).is_file(), link
    assert len((index.parent / "data" / "history.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none", "there is no file or folder"),
        (lambda folder: asv(folder / "new", {"bome": [1.0]}, version=3), "version 3 of asv's results, this reads 2"),
        (lambda folder: (folder / "empty").mkdir() or folder / "empty", "holds no figure of a commit"),
        (lambda folder: (folder / "a.json").write_text("{") and folder / "a.json", "is no JSON of asv"),
        (lambda folder: (folder / "a.json").write_text("{}") and folder / "a.json", "is no file of pytest-benchmark"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, make, words):
    with pytest.raises(RequestError, match=words):
        write([make(tmp_path)], tmp_path / "out")


def test_benchmarks_outside_of_git_are_one_sentence(tmp_path):
    path = benchmark(tmp_path / "a.json", 0, 1.0, 1)
    content = json.loads(path.read_text())
    content["commit_info"]["id"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="names no commit"):
        history.read([path])
