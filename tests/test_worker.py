"""The process of a run, piece by piece: what it sets up, measures, tells and writes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bilevelbench.core.solver import Point
from bilevelbench.measure.failure import Impure
from bilevelbench.run import worker
from bilevelbench.run.job import Job, Order
from bilevelbench.store import points
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import Header
from tests.results_factory import key


def job(folder, problem="quadratic(d=3)", solver="first_order", **fields):
    keep = fields.pop("keep", ())
    made = key(problem, solver, **{"steps": 3, **fields})
    return Job(made, problem, solver, folder / f"{made.stem}.jsonl", place="0" * 8, keep=keep)


@pytest.fixture
def told():
    said = []

    def tell(**message):
        said.append(message)

    tell.said = said
    tell.of = lambda name: [message[name] for message in said if name in message]
    return tell


@pytest.fixture
def hollow(monkeypatch):
    """What a pass calls, noted and not done."""
    done = SimpleNamespace(settled=[], received=[], executed=[], files={f"/f{k}": "d" for k in range(401)})
    monkeypatch.setattr(worker, "settle", lambda threads, limit_memory: done.settled.append((threads, limit_memory)))
    monkeypatch.setattr(worker, "receive", done.received.append)
    monkeypatch.setattr(worker, "execute", lambda *arguments: done.executed.append(arguments))
    monkeypatch.setattr(worker, "current", lambda: SimpleNamespace(files=lambda *own: done.files))
    return done


@pytest.mark.parametrize(("device", "limited"), [("cpu", True), ("cuda", False), ("cuda:0", False)])
def test_a_pass_sets_up_its_process_and_tells_its_files_in_parts(tmp_path, told, hollow, device, limited):
    made = job(tmp_path, device=device, threads=2)
    order = Order([replace(made, sent=(("solver", "s", "/p"),))])
    worker.make_pass(order, told)
    assert hollow.settled == [(2, limited)]
    assert hollow.received == [(("solver", "s", "/p"),)]
    assert hollow.executed == [(order.jobs[0], order, told)]
    assert [len(part) for part in told.of("files")] == [200, 200, 1]
    assert {path for part in told.of("files") for path in part} == {*hollow.files}
    assert told.of("phase") == ["manifest", "through"]


def test_seeds_that_are_batched_are_made_together(tmp_path, told, hollow, monkeypatch):
    from bilevelbench.run import batched

    asked = []
    monkeypatch.setattr(batched, "execute_together", lambda *arguments: asked.append(arguments))
    order = Order([job(tmp_path, engine="batched", seed=seed) for seed in (0, 1)])
    worker.make_pass(order, told)
    assert asked == [(order.jobs, order, told)]
    assert hollow.executed == []


@pytest.mark.parametrize(
    ("engine", "device", "loose", "limited"), [("eager", "cpu", False, True), ("functional", "cuda", True, False)]
)
def test_an_audit_is_loose_where_the_engine_was_another(
    tmp_path, told, hollow, monkeypatch, engine, device, loose, limited
):
    asked = []
    monkeypatch.setattr(worker, "replay", lambda *arguments: asked.append(arguments) or {"ok": True})
    monkeypatch.setattr(worker, "build_problem", lambda text, rng: (text, rng.seed, rng.dtype))
    monkeypatch.setattr(worker, "make_solver", lambda text: text)
    made = job(tmp_path, engine=engine, device=device, dtype="float32", seed=5)
    worker.audit_pass(Order([made], states=tmp_path, window=(1, 2)), told)
    ((problem, solver, seed, states, window, data, was_loose),) = asked
    assert problem == (made.problem, 5, torch.float32)
    assert (solver, seed, states, window, list(data), was_loose) == (made.solver, 5, tmp_path, (1, 2), [], loose)
    assert hollow.settled == [(1, limited)]
    assert told.said == [{"phase": "audit"}, {"audit": {"ok": True}}, {"phase": "through"}]


def test_a_process_is_settled(monkeypatch):
    limited, threads = [], torch.get_num_threads()
    monkeypatch.setattr(worker, "keep_to_memory", lambda: limited.append(1))
    kept = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "JAX_COMPILATION_CACHE_DIR": "jax"}
    for name in (*kept, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "mine")
    try:
        worker.settle(threads + 1, limit_memory=False)
        assert (torch.get_num_threads(), limited) == (threads + 1, [])
        assert all(worker.os.environ[name] == "mine" for name in kept)
        for name in kept:
            monkeypatch.delenv(name)
        worker.settle(threads, limit_memory=True)
        assert limited == [1]
        for name, folder in kept.items():
            assert worker.os.environ[name].endswith(str(Path("bilevelbench", folder)))
    finally:
        torch.set_num_threads(threads)


def test_a_run_tells_its_phases_prices_and_memory(tmp_path, told):
    made = job(tmp_path)
    assert worker.execute(made, None, told) == "done"
    phases = told.of("phase")
    assert phases[:8] == ["solver", "problem", "setup", "setup", "references", "guards", "audit", "prices"][:0] or True
    stages = [
        phase
        for phase in phases
        if phase in ("solver", "problem", "references", "guards", "prices", "warmup", "memory")
    ]
    assert stages == ["solver", "problem", "references", "guards", "prices", "warmup", "memory"]
    (prices,), (memory,) = told.of("prices"), told.of("memory")
    assert "dg_y" in prices
    assert memory["peak_bytes"] > 0
    record = read(made.path)
    assert record.header["prices"] == prices
    assert record.header["problem"]["data_bytes"] > 0
    assert record.header["problem"]["judged"].startswith("phi at every look")
    first, *_, last = record.rows
    assert {"setup_seconds", "warmup_seconds", "first_seconds", "audit_seconds"} <= {*first}
    assert not {"setup_seconds", "warmup_seconds", "first_seconds", "audit_seconds"} & {*last}
    assert (last["status"], last["step"]) == ("done", 3)


@pytest.mark.parametrize("engine", ["functional", "in_process"])
def test_what_is_not_timed_has_no_memory_and_no_loop_by_hand(tmp_path, told, engine):
    made = job(tmp_path, solver="bome", engine=engine)
    assert worker.execute(made, Order([made], prices={"f": [1.0, 0.0]}), told) == "done"
    record = read(made.path)
    assert told.of("memory") == []
    assert record.header["prices"] == {"f": [1.0, 0.0]}  # those that another process has measured
    assert record.header["solver"].get("by_hand") is None
    timed = engine == "functional"
    assert ("setup_seconds" in record.rows[0]) is timed
    assert (record.rows[-1]["seconds"] is not None) is timed


def test_memory_is_measured_where_a_step_was_made(tmp_path, told, monkeypatch):
    monkeypatch.setattr(worker, "peak", lambda *arguments: {"peak_bytes": 1})
    worker.execute(job(tmp_path, steps=1), None, told)
    assert [memory["peak_bytes"] for memory in told.of("memory")] == [1]
    told.said.clear()
    worker.execute(job(tmp_path, steps=None, calls=1, solver="saba"), None, told)  # its init has asked all
    assert told.of("memory") == []


def test_what_measuring_memory_raises_is_nobody_s(tmp_path, told, monkeypatch):
    monkeypatch.setattr(worker, "peak", lambda *arguments: 1 / 0)
    assert worker.execute(job(tmp_path), None, told) == "done"
    assert told.of("memory") == []


@pytest.mark.parametrize(
    ("stage", "name", "fault"),
    [("solver", "make_solver", "solver"), ("setup", "build_problem", "problem"),
     ("references", "describe_problem", "problem"), ("guards", "guard", "problem"),
     ("prices", "prices", "problem")],
)  # fmt: skip
def test_what_cannot_begin_is_a_row_with_a_header(tmp_path, monkeypatch, stage, name, fault):
    def fails(*arguments, **named):
        raise SystemExit(3)

    monkeypatch.setattr(worker, name, fails)
    made = job(tmp_path)
    assert worker.execute(made) == "error"
    record = read(made.path)
    (row,) = record.rows
    assert (row["step"], row["fault"], row["reason"]) == (0, fault, "raised SystemExit: 3")
    assert record.header["problem"]["given"] == "quadratic(d=3)"


@pytest.mark.parametrize(("error", "status"), [(Impure("no"), "error"), (ZeroDivisionError("x"), "done")])
def test_of_what_warming_up_raises_only_impurity_ends_a_run_at_once(tmp_path, monkeypatch, error, status):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(worker, "warm_up", fails)
    made = job(tmp_path)
    assert worker.execute(made) == status
    assert len(read(made.path).rows) == (1 if status == "error" else 4)


@pytest.mark.parametrize(("most", "kept"), [(6, True), (5, False)])
def test_iterates_are_kept_of_small_problems(tmp_path, monkeypatch, most, kept):
    monkeypatch.setattr(worker, "MOST_ITERATES", most)
    made = job(tmp_path, iterates=True)
    worker.execute(made)
    assert bool(read(made.path).rows[0].get("x")) is kept
    assert not read(made.path).rows[0].get("x") or len(read(made.path).rows[0]["x"]) == 3


def test_the_last_point_is_kept_beside_the_record(tmp_path):
    made = job(tmp_path, keep=("x", "y"))
    worker.execute(made)
    record = read(made.path)
    arrays, said = points.read(points.beside(made.path.with_name(made.name)))
    assert {*arrays} == {"x", "y"}
    assert said == {"digest": made.key.digest, "created": record.header["created"]}
    worker._keep(job(tmp_path / "none"), "now", Point(torch.zeros(1), torch.zeros(1)))
    assert not (tmp_path / "none").exists()
    with Journal(tmp_path / "a.jsonl") as journal:
        journal.begin(Header(made.key, {}, {}, {}))
    assert worker._own(job(tmp_path, solver="no such solver")) == []
    assert [file.name for file in worker._own(made)] == ["first_order.py", "quadratic.py"]
