"""What the page's script reads is what the rows say, to the digits shown, and cannot leave its place in the page."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.report import live, parts
from bilevelbench.report.page import Asked, write
from bilevelbench.store.frame import load
from tests.results_factory import write_run

pytestmark = pytest.mark.xdist_group("report")


def blobs(page):
    html = page.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="([^"]+)-data">(.*?)</script>', html)
    return {name: json.loads(text) for name, text in found}


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.integers(2, 8))
def test_digits_round_to_so_many(values, n):
    found = live.digits(values, n)
    for value, rounded in zip(values, found.tolist(), strict=True):
        if math.isfinite(value) and abs(value) > 1e-300:
            assert rounded == pytest.approx(value, rel=0.51 * 10.0 ** (1 - n))
        elif not math.isfinite(value):
            assert rounded == value or math.isnan(value)


@given(st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=20))
def test_whole_numbers_stay_exact(values):
    assert live.digits(values, 2).tolist() == values


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_no_text_leaves_its_place(text):
    made = live._dumps({text: [text, float("nan")]})
    assert not set("<>&") & set(made)
    assert json.loads(made) == {text: [text, None]}


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_medians_and_quartiles_are_those_of_the_rows(runs):
    rng = np.random.default_rng(runs)
    rows = [
        {"run": f"r{k}", "solver": "a", "step": step, "total_calls": 7 * step + k, "seconds": 0.1, "phi": rng.normal()}
        for k in range(runs)
        for step in (0, 1, 2, 4, *((8,) if k else ()))  # the first run ends early
    ]
    looks = pd.DataFrame(rows)
    (curve,) = live.curves(looks, ["phi"], {"a": 3}, 99)["curves"]
    assert (curve["s"], curve["n"]) == (3, runs)
    middle = looks[looks["step"] <= 4].groupby("step")
    assert curve["x"][list(live.AXES).index("step")].tolist() == [0, 1, 2, 4]
    assert curve["x"][0] == pytest.approx(middle["total_calls"].median().to_numpy())
    assert curve["x"][1] == [], "passes are not known"
    expected = [middle["phi"].median(), middle["phi"].quantile(0.25), middle["phi"].quantile(0.75)]
    assert len(curve["y"][0]) == (3 if runs > 2 else 1)
    for shown, value in zip(curve["y"][0], expected, strict=False):
        assert shown == pytest.approx(value.to_numpy(), rel=1e-3)


def test_of_a_long_curve_the_ends_are_kept():
    looks = pd.DataFrame({"run": "r", "solver": "a", "step": range(1000), "seconds": 0.0, "phi": 1.0})
    (curve,) = live.curves(looks, ["phi"], {"a": 0}, 12)["curves"]
    steps = curve["x"][list(live.AXES).index("step")].tolist()
    assert (len(steps), steps[0], steps[-1]) == (12, 0, 999)


@pytest.fixture
def folder(tmp_path):
    for solver in ("bome", "itd"):
        for seed in range(2):
            write_run(tmp_path / "in", solver=solver, seed=seed, extra={"f": 1 / 3})
    write_run(tmp_path / "in", solver="bome", seed=2, gaps=(), status="unsupported", reason="needs more")
    return tmp_path / "in"


def test_every_run_and_every_look_is_in_the_page(folder, tmp_path):
    data, made = load(folder), blobs(write(folder, tmp_path / "out").path)
    assert set(made) == {"facts", "curves-quadratic", "runs", "rows-quadratic"}
    assert sorted(made["runs"]["run"]) == sorted(data.runs["run"])
    assert made["rows-quadratic"]["metrics"] == ["phi_gap", "f"]
    for run, shown in made["rows-quadratic"]["runs"].items():
        looks = data.looks[data.looks["run"] == run]
        assert shown["x"][0] == looks["total_calls"].tolist()
        assert shown["y"][0] == pytest.approx(looks["phi_gap"].tolist(), rel=1e-5)
        assert shown["about"]["seed"] == data.runs.set_index("run").loc[run, "seed"]
    (refused,) = [run for run in made["rows-quadratic"]["runs"].values() if run["about"]["status"] == "unsupported"]
    assert refused["about"]["reason"] == "needs more"


def test_a_brief_page_has_the_first_metric_and_no_rows(folder, tmp_path):
    page = write(folder, tmp_path / "out", asked=Asked(brief=True)).path
    made = blobs(page)
    assert set(made) == {"facts", "curves-quadratic"}
    assert made["curves-quadratic"]["metrics"] == ["phi_gap"]
    assert not list((tmp_path / "out" / "data").glob("*.js"))


def test_of_many_runs_rows_are_beside_the_page(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MOST_RUNS", 3)
    page = write(folder, tmp_path / "out").path
    assert set(blobs(page)) == {"facts", "curves-quadratic"}
    assert sorted(path.name for path in (tmp_path / "out" / "data").glob("*.js")) == ["rows-quadratic.js", "runs.js"]
    assert "'strict-dynamic'" in page.read_text()
    monkeypatch.undo()
    assert "'strict-dynamic'" not in write(folder, tmp_path / "few").path.read_text()


def test_of_very_many_looks_a_page_has_medians_and_files_have_all(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MOST_LOOKS", 11)
    page = write(folder, tmp_path / "out").path
    assert set(blobs(page)) == {"facts", "curves-quadratic"}
    assert blobs(page)["curves-quadratic"]["metrics"] == ["phi_gap", "f"]
    assert not list((tmp_path / "out" / "data").glob("*.js"))
    assert len((tmp_path / "out" / "data" / "quadratic.csv").read_text().splitlines()) == 13


def test_what_binds_is_said_in_a_word():
    assert live.constraint({"constraints": ["h_g"], "flags": ["kinked"]}) == "constraint functions"
    assert live.constraint({"flags": ["boundary"]}) == "bounds"
    assert live.constraint({"constraints": None, "flags": []}) == "none"


def test_what_makes_a_verdict_uncertain_stands_beside_it(tmp_path):
    for solver in ("bome", "itd"):
        path = write_run(tmp_path / "in", solver=solver)
        path.write_text(path.read_text().replace('"load":[0.1,0.1,0.1]', '"load":[9.0,9.0,9.0]'))
    page = write(tmp_path / "in", tmp_path / "out").path.read_text()
    beside = page[page.index('<aside class="doubts"') : page.index("</aside>")]
    assert "The machine was busy" in beside
    assert "No run failed" in beside
    assert "1 problem of 1 was seen with a single seed." in beside
    assert page.index("</aside>") < page.index('id="leaders"')
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r' id="([^"]+)"', page)), "every link leads somewhere"
