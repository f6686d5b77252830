"""From records to tables: every column from its own place in the file, and of several files the right one."""

import gc
import json
import math

import pandas as pd
import pytest

from bilevelbench.store import blocks
from bilevelbench.store.blocks import kept, of_rows
from bilevelbench.store.frame import _latest, _no_collector, load
from bilevelbench.store.journal import Record, read
from bilevelbench.store.summary import machine, order, row
from tests.results_factory import write_run


def rewritten(path, header=lambda header: None, rows=lambda rows: None):
    """The file with its header and its other lines changed in place."""
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    header(head)
    rows(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)))
    return path


def record(tmp_path, **options):
    return read(write_run(tmp_path, **options))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ({"d2g": 1, "f": 1}, 2), ({"d2g_yy": 1}, 2), ({"d2f": 0, "df": 1}, 1), ({"df_x": 1}, 1), ({"dg_y": 1}, 1),
        ({"dh_g": 1}, 1), ({"dg_y": 0, "f": 1}, 0), ({"f": 1}, 0), ({"g": 1}, 0), ({"h_f": 1}, 0), ({"h_g": 1}, 0),
        ({"draw_f": 1}, None), ({"f": 0}, None), ({}, None),
    ],
)  # fmt: skip
def test_the_order_is_the_highest_that_was_counted(calls, expected):
    assert order(calls) == expected


def test_a_machine_is_its_processor_cores_and_gpu():
    assert machine({"cpu": "c", "cores": 2, "gpu": "g"}) == "c, 2 cores, g"
    assert machine({"cores": 2}) == "2 cores"
    assert machine({"cpu": "a\x00", "cores": 2}) == "a\ufffd, 2 cores"


def test_a_run_s_row_takes_each_figure_from_its_place(tmp_path):
    def header(head):
        head["problem"]["digest"] = {"drawn": "d", "computed": "e", "numbers": [1.0, None]}
        head["key"] |= {"threads": 2, "seconds": 3.0}
        head["environment"] |= {"cpu": "c", "load": [0.7, 0.2, 0.1]}

    def rows(lines):
        lines[0] |= {"setup_seconds": 0.1, "first_seconds": 0.3, "warmup_seconds": 0.4, "audit_seconds": 0.5}
        lines[-2] |= {"judge_seconds": 0.6, "overhead_seconds": 0.8}

    path = rewritten(write_run(tmp_path, knobs={"lr": 0.1}, seed=3, memory={"growth_bytes": 9}), header, rows)
    run = row("name", read(path))
    assert run["run"] == "name"
    assert (run["asked_problem"], run["asked_solver"], run["name"]) == ("quadratic", "bome({'lr': 0.1})", "bome")
    assert (run["seed"], run["threads"], run["on"]) == (3, 2, "2 threads")
    assert (run["device"], run["dtype"], run["engine"], run["version"]) == ("cpu", "float64", "eager", "version 1")
    assert (run["drawn"], run["computed"], run["numbers"]) == ("d", "e", (1.0, None))
    assert (run["status"], run["fault"], run["attempts"], run["ended_by"]) == ("done", "", 1, "steps")
    assert run["budget"] == "10 steps, 3.0 seconds"
    assert (run["steps"], run["seconds"], run["cpu_seconds"], run["calls"]) == (2, 0.002, 0.002, 20)
    assert (run["peak_bytes"], run["state_bytes"], run["growth_bytes"], run["solver_bytes"]) == (1024, 32, 9, None)
    assert (run["setup_seconds"], run["first_seconds"], run["warmup_seconds"], run["audit_seconds"]) == (
        0.1,
        0.3,
        0.4,
        0.5,
    )
    assert (run["judge_seconds"], run["overhead_seconds"], run["load"]) == (0.6, 0.8, 0.7)
    assert (run["n_x"], run["n_y"], run["machine"], run["order"]) == (2, 2, "c, 2 cores", 1)


def test_what_a_file_does_not_say_is_left_open(tmp_path):
    def header(head):
        head["solver"] = {"order": 2}
        del head["problem"]["given"], head["environment"]

    path = rewritten(write_run(tmp_path), header)
    run = row("name", read(path))
    assert (run["asked_problem"], run["asked_solver"], run["name"]) == ("quadratic", "bome", "bome")
    assert (run["choices"], run["knobs"], run["load"], run["on"]) == ({}, {}, None, "1 thread")
    assert (run["drawn"], run["computed"], run["numbers"]) == ("", "", ())
    found = read(path)
    found.rows = []
    empty = row("name", found)
    assert (empty["steps"], empty["seconds"], empty["peak_bytes"], empty["order"]) == (None, None, None, 2)
    assert (empty["status"], empty["reason"], empty["traceback"], empty["ended_by"]) == ("cut off", "", "", "")


def test_the_last_line_s_memory_goes_before_the_first_row_s(tmp_path):
    found = record(tmp_path)
    found.end["memory"] = {"peak_bytes": 7}
    assert (row("n", found)["peak_bytes"], row("n", found)["state_bytes"]) == (7, None)


def test_looks_are_the_rows_with_metrics(tmp_path):
    found = record(tmp_path, gaps=(1.0, 0.5), status="error", extra={"seconds": 3.0, "acc": 0.5})
    block = of_rows(found.rows)
    columns = {name: values.tolist() for name, values in zip(block.names, block.values, strict=True)}
    assert columns["step"] == [0, 1]
    assert columns["seconds"] == [0.0, 0.001]
    assert columns["phi_gap"] == [1.0, 0.5]
    assert columns["seconds (metric)"] == [3.0, 3.0]
    assert columns["calls\0dg_y"] == [0, 10]
    assert (block.ended, block.unjudged) == ("running", None)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"passes": {"forward": 2, "backward": 3}, "total_calls": 9}, 5.0), ({"total_calls": 0}, 0.0),
        ({"total_calls": 9}, math.nan), ({"passes": {}, "total_calls": 9}, math.nan), ({}, 0.0),
    ],
)  # fmt: skip
def test_passes_are_summed_and_unknown_in_older_files(row, expected):
    assert blocks.passes(row) == expected or (math.isnan(blocks.passes(row)) and math.isnan(expected))


def test_of_the_rows_the_ends_and_those_with_iterates_are_kept():
    rows = [{"k": 0}, {"k": 1}, {"k": 2, "x": [1.0]}, {"k": 3, "x": None}, {"k": 4}]
    assert [row["k"] for row in kept(rows)] == [0, 2, 4]
    assert kept([]) == []
    assert kept([{"k": 0}]) == [{"k": 0}]


def made(digest="d", created="1", code="c", cpu="p", trouble=False, path="a"):
    header = {"key": {"solver": "s", "code": code}, "digest": digest, "created": created, "environment": {"cpu": cpu}}
    return Record(path, header, troubles=["bad"] * trouble)


def test_of_one_experiment_on_one_machine_the_last_one_stands():
    old, new = made("old", "1", "c"), made("new", "2", "e")
    assert _latest([new, old]) == {"new": new}
    assert _latest([old, new]) == {"new": new}
    whole, bad = made("whole", "1"), made("bad", "2", trouble=True)
    assert _latest([whole, bad]) == {"whole": whole}
    here, there = made("d", cpu="a"), made("d", cpu="b")
    assert _latest([here, there]) == {"d": here, "d-1": there}
    third = made("d", cpu="c")
    assert set(_latest([here, there, third])) == {"d", "d-1", "d-2"}


def test_reading_does_not_collect_and_leaves_the_collector_as_it_was():
    assert gc.isenabled()
    with _no_collector():
        assert not gc.isenabled()
        with _no_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_tables_are_sorted_and_joined(tmp_path):
    for seed in (1, 0):
        for solver in ("itd", "bome"):
            write_run(tmp_path, solver=solver, seed=seed, extra={"acc": 1.0} if solver == "itd" else None)
    write_run(tmp_path, problem="other", gaps=(), status="error")
    data = load(tmp_path)
    names = data.runs[["problem", "solver", "seed"]].to_numpy().tolist()
    assert names == [["other", "bome", 0], ["quadratic", "bome", 0], ["quadratic", "bome", 1],
                     ["quadratic", "itd", 0], ["quadratic", "itd", 1]]  # fmt: skip
    assert data.looks["run"].tolist() == [run for run in data.runs["run"][1:] for _ in range(3)]
    assert data.looks["step"].tolist() == [0, 1, 2] * 4
    assert data.looks["solver"].tolist() == ["bome"] * 6 + ["itd"] * 6
    assert data.looks["seed"].tolist() == ([0] * 3 + [1] * 3) * 2
    assert data.looks["acc"].isna().tolist() == [True] * 6 + [False] * 6
    assert data.looks["total_calls"].dtype == data.looks["step"].dtype == int
    assert list(data.looks.columns[:6]) == ["run", "step", "seconds", "cpu_seconds", "total_calls", "status"]
    assert (data.superseded, data.troubles) == (0, [])
    assert all(len(found.rows) == 2 for name, found in data.records.items() if found.status == "done")


def test_the_looks_of_a_problem_are_those_of_the_whole_table(tmp_path):
    for seed in (1, 0):
        for problem, extra in (("quadratic", {"acc": 1.0}), ("b", {"loss": 2.0, "acc": 3.0}), ("a", None)):
            write_run(tmp_path, problem=problem, seed=seed, extra=extra)
    write_run(tmp_path, problem="none", gaps=(), status="error")
    data = load(tmp_path)
    assert data.stored.problems == sorted(data.runs["problem"].unique()) == ["a", "b", "none", "quadratic"]
    assert len(data.stored) == len(data.looks) == 18
    metrics = [name for name in data.looks.columns if name in ("loss", "acc", "phi_gap")]
    assert metrics == ["phi_gap", "loss", "acc"], "as they come, in the order of the runs"
    for problem, looks in data.stored:
        wanted = data.looks[data.looks["problem"] == problem].reset_index(drop=True)
        assert len(looks) == len(wanted)
        if len(looks):
            pd.testing.assert_frame_equal(*(table.dropna(axis=1, how="all") for table in (looks, wanted)))
    ends = data.looks.groupby("run", as_index=False, observed=True)
    pd.testing.assert_frame_equal(data.stored.firsts(), ends.first())
    pd.testing.assert_frame_equal(data.stored.lasts(), ends.last())
    some = data.stored.only(data.runs[data.runs["problem"] == "b"])
    assert some.problems == ["b"]
    assert len(some.whole) == 6


def test_without_looks_there_is_an_empty_table(tmp_path):
    write_run(tmp_path, gaps=(), status="error")
    data = load(tmp_path)
    assert len(data.runs) == 1
    assert len(data.looks) == 0
    assert {"run", "step", "status", "problem", "solver", "seed", "grads"} <= {*data.looks.columns}


def test_some_runs_of_several_folders(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    path = write_run(one, solver="bome")
    write_run(two, solver="itd")
    assert load([one, two, one]).runs["solver"].tolist() == ["bome", "itd"]
    assert load([one, two], {path.name.removesuffix(".jsonl")}).runs["solver"].tolist() == ["bome"]
    with pytest.raises(ValueError, match="hold no bilevelbench result; make some"):
        load([one, two], set())
    with pytest.raises(ValueError, match="nowhere holds no bilevelbench result; make some"):
        load(tmp_path / "nowhere")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jsonl").write_text("x")
    with pytest.raises(ValueError, match=r"holds no bilevelbench result: .*no header"):
        load(tmp_path / "bad")


def test_a_clock_that_failed_is_counted_among_all(tmp_path):
    for seed, clock in enumerate(({"ok": False, "slept": 1.0}, {"ok": True}, None)):
        rewritten(write_run(tmp_path, seed=seed), lambda head, clock=clock: head["environment"].update(clock=clock))
    (note,) = load(tmp_path).notes
    assert "failed for 1 of 3 runs (it read {'ok': False, 'slept': 1.0})" in note
