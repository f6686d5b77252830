"""What must not be compared is in no common ratio, and calls are weighed by what they take."""

import json

import pytest

from bilevelbench.asv import rows
from bilevelbench.report.page import write
from bilevelbench.stats import compare, targets
from bilevelbench.store.frame import load
from bilevelbench.store.prices import floor
from tests.results_factory import write_run

PRICES = {"dg_y": [1e-5, 0.0], "df": [3e-5, 1e-6], "d2g": [5e-5, 0.0]}


def changed(path, name="", **fields):
    """The file, its header's fields replaced ("environment.cpu" is reached as environment__cpu)."""
    head, *lines = path.read_text().split("\n")
    header = json.loads(head)
    for field, value in fields.items():
        place, keys = header, field.split("__")
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    if name:
        path.unlink()
        header["digest"] = name.ljust(16, "0")
        path = path.with_name(f"{name}.jsonl")
    path.write_text("\n".join([json.dumps(header), *lines]))
    return path


def ratios(data):
    """Every pair of runs whose costs enter one ratio."""
    hit = targets.hits(data.runs, data.looks)
    return {frozenset(group["run"]) for _, group in hit.groupby(["problem", "target"])}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key__problem_version": 2}, "quadratic: results of version 1 and version 2 are kept apart"),
        ({"key__device": "cuda"}, ""),
    ],
)
def test_results_that_must_not_be_compared_are_in_no_common_ratio(tmp_path, fields, words):
    changed(write_run(tmp_path, solver="bome"), "one")
    changed(write_run(tmp_path, solver="itd", order=2), "two", **fields)
    data = load(tmp_path)
    assert len(data.runs) == 2
    assert all(len(together) == 1 for together in ratios(data))
    if words:
        assert any(words in note for note in data.notes), data.notes
        report = write(tmp_path, tmp_path / "out")
        assert "are kept apart" in report.path.read_text()


@pytest.mark.parametrize("fields", [{"environment__cpu": "other"}, {"environment__gpu": "H100"}])
def test_counts_of_several_machines_are_in_one_ratio_and_seconds_in_none(tmp_path, fields):
    """The seconds are those of the machine with the most runs."""
    for seed in (0, 1):
        changed(write_run(tmp_path, solver="bome", seed=seed), f"{seed}one", prices=PRICES)
    changed(write_run(tmp_path, solver="itd", order=2), "two", prices={"dg_y": [7.0, 0.0]}, **fields)
    data = load(tmp_path)
    assert set(data.runs["problem"]) == {"quadratic"}
    assert any("seconds are those of 2 cores alone" in note for note in data.notes), data.notes
    hit = targets.hits(data.runs, data.looks)
    assert any(len(together) == 3 for together in ratios(data))
    assert hit.groupby("solver")["calls"].apply(lambda calls: calls.notna().all()).to_dict() == {
        "bome": True, "itd": True,
    }  # fmt: skip
    assert hit[hit["solver"] == "itd"]["seconds"].isna().all()
    assert hit[hit["solver"] == "bome"]["seconds"].notna().all()
    assert data.runs.set_index("solver")["seconds"].isna().to_dict() == {"bome": False, "itd": True}
    assert data.runs["grads"].tolist() == pytest.approx([20.0] * 3)  # by one list of prices
    table = compare.compare(data.runs, hit).leaders.set_index("solver")
    assert table["calls_ratio"].notna().all()
    assert table["seconds_ratio"].isna().to_dict() == {"bome": False, "itd": True}
    report = write(tmp_path, tmp_path / "out")
    assert "seconds are those of 2 cores alone" in report.path.read_text()


@pytest.mark.parametrize(
    ("other", "pooled"),
    [
        ({"host": "b", "work_seconds": 0.1029}, True),
        ({"host": "b", "work_seconds": 0.1031}, False),
        ({"host": "b", "work_seconds": 0.1, "torch": "3"}, False),
        ({"host": "b", "work_seconds": 0.1, "blas": "mkl"}, False),
        ({"host": "b", "work_seconds": 0.1, "driver": "5"}, False),
        ({"host": "a", "work_seconds": 0.2}, True),  # one machine, at two loads
        ({}, True),  # an older record
    ],
)
def test_machines_of_one_kind_are_pooled_for_seconds(tmp_path, other, pooled):
    """What known work takes is the median over the runs of a host."""
    mine = {"host": "a", "work_seconds": 0.1}
    for k in range(3):
        changed(write_run(tmp_path, seed=k), f"{k}", **{f"environment__{name}": value for name, value in mine.items()})
    changed(
        write_run(tmp_path, solver="itd"), "two", **{f"environment__{name}": value for name, value in other.items()}
    )
    runs = load(tmp_path).runs
    assert (runs["machine"].nunique() == 1) == pooled
    assert runs.set_index("solver").loc["itd", "seconds"] == runs["seconds"].max() or not pooled
    assert runs["seconds"].isna().sum() == (not pooled)


def test_seconds_of_runs_that_shared_their_cores_are_in_no_ratio(tmp_path):
    changed(write_run(tmp_path, solver="bome"), environment__held=[0])
    changed(write_run(tmp_path, solver="itd"), environment__held=[])
    write_run(tmp_path, solver="old")
    data = load(tmp_path)
    assert data.runs.set_index("solver")["seconds"].isna().to_dict() == {"bome": False, "itd": True, "old": False}
    assert "1 of 3 runs shared their cores with others: their seconds are in no ratio." in data.notes
    assert data.looks.loc[data.looks["solver"] == "itd", "total_calls"].max() > 0


def test_results_of_one_machine_and_version_are_in_one_ratio(tmp_path):
    write_run(tmp_path, solver="bome")
    write_run(tmp_path, solver="itd", order=2)
    data = load(tmp_path)
    assert not data.notes
    assert any(len(together) == 2 for together in ratios(data))


def test_another_schema_is_refused_and_said(tmp_path):
    write_run(tmp_path, solver="bome")
    path = write_run(tmp_path, solver="itd")
    path.write_text(path.read_text().replace('"schema":2', '"schema":99', 1))
    data = load(tmp_path)
    assert list(data.runs["solver"]) == ["bome"]
    assert "schema 99" in data.troubles[0]


def test_a_clock_that_failed_its_check_is_said(tmp_path):
    changed(write_run(tmp_path), environment__clock={"ok": False, "slept": 0.01})
    assert "do not trust their seconds" in load(tmp_path).notes[0]


def test_calls_are_weighed_by_their_prices(tmp_path):
    for solver, price in (("bome", 10), ("itd", 30)):
        changed(write_run(tmp_path, solver=solver, price=price), prices=PRICES)
    data = load(tmp_path)
    last = data.looks.groupby("solver")["grads"].last()
    assert last.to_dict() == pytest.approx({"bome": 20.0, "itd": 60.0})  # dg_y alone: calls are the unit
    assert data.runs.set_index("solver")["floor_seconds"].to_dict() == pytest.approx({"bome": 2e-4, "itd": 6e-4})
    table = compare.compare(data.runs, targets.hits(data.runs, data.looks)).leaders.set_index("solver")
    assert table.loc["itd", "grads_ratio"] == pytest.approx(3.0)
    # 0.001 s a step over ten, thirty gradients of 1e-5 s
    assert table["over_floor"].to_dict() == pytest.approx({"bome": 10.0, "itd": 10.0 / 3})


def test_the_floor_of_a_solver_with_a_loop_by_hand_is_that_loop(tmp_path):
    """Its seconds a step, the median over the solver's runs; gradient equivalents stay those of the calls."""
    for seed, taken in enumerate((3e-5, 4e-5, 9e-5)):
        changed(write_run(tmp_path, solver="bome", seed=seed), prices=PRICES, solver__by_hand=taken)
    changed(write_run(tmp_path, solver="itd"), prices=PRICES)
    runs = load(tmp_path).runs
    steps = runs.set_index("solver")["steps"].to_dict()
    floors = runs.groupby("solver")["floor_seconds"].median()
    assert floors["bome"] == pytest.approx(4e-5 * steps["bome"])
    assert floors["itd"] == pytest.approx(2e-4)
    assert runs["grads"].tolist() == pytest.approx([20.0] * 4)


def test_the_median_of_several_processes_prices_is_used(tmp_path):
    for seed, factor in enumerate((1, 2, 9)):
        changed(write_run(tmp_path, seed=seed), prices={"dg_y": [factor * 1e-5, 0.0]})
    assert load(tmp_path).runs["floor_seconds"].tolist() == pytest.approx([4e-4] * 3)


def test_without_prices_there_are_no_gradient_equivalents(tmp_path):
    write_run(tmp_path)
    data = load(tmp_path)
    assert data.looks["grads"].isna().all()
    table = compare.compare(data.runs, targets.hits(data.runs, data.looks)).leaders
    assert table["grads_ratio"].isna().all()
    assert table["calls_ratio"].notna().all()


def test_the_floor_counts_calls_and_rows():
    prices = {kind: tuple(price) for kind, price in PRICES.items()}
    assert floor(prices, {"df": 2, "draw_f": 7, "project_x": 3}, {"df": 100}, {}) == pytest.approx(6e-5 + 1e-4)
    assert floor(prices, {"dg": 1}, {}, {}) != floor(prices, {"dg": 1}, {}, {}), "a kind without a price makes it NaN"


def test_what_a_kept_graph_answered_has_a_price_of_its_own():
    prices = {"d2g_yy": (5e-5, 1e-6), "kept d2g_yy": (2e-5, 0.0), "dg_y": (3e-5, 0.0)}
    asked = {"d2g_yy": 10, "dg_y": 4}, {"d2g_yy": 100}
    assert floor(prices, *asked, {}) == pytest.approx(5e-4 + 1e-4 + 1.2e-4)
    assert floor(prices, *asked, {"d2g_yy": 9, "dg_y": 1}) == pytest.approx(1.8e-4 + 5e-5 + 1e-5 + 9e-5)


def test_made_up_results_have_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PROBLEMS", 1)
    monkeypatch.setattr(rows, "SOLVERS", 2)
    assert rows.write(tmp_path, 300) == 400
    data = load(tmp_path)
    assert len(data.looks) == 400
    assert data.looks["grads"].notna().all()
    assert write(tmp_path, tmp_path / "out").path.is_file()
