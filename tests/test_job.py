"""When a run need not be made, which file it replaces, and what is made in one pass."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.plan import Plan
from bilevelbench.measure.stamps import hash_of
from bilevelbench.run.job import Job, Named, Order, known_device
from bilevelbench.run.passes import Pass, finish, last_row, together
from bilevelbench.run.plan import unfinished
from bilevelbench.run.suite import Block, Suite
from bilevelbench.run.supervise import End as Ended
from bilevelbench.store import points
from bilevelbench.store.files import mark
from bilevelbench.store.journal import Journal, Record, read
from bilevelbench.store.schema import End, Header, Row, RunKey
from tests.results_factory import key

HERE, THERE = "0" * 8, "1" * 8


def job(folder, **fields):
    made = key()
    return Job(made, "quadratic", "bome", folder / f"{made.stem}.jsonl", **{"place": HERE, **fields})


def write(path, status="done", timeout=None, place=HERE, manifest=None, made=None):
    with Journal(path) as journal:
        journal.begin(Header(made or key(), {"given": "p"}, {"given": "s"}, {"place": place}, timeout=timeout))
        journal.append(Row(0, status=status))
        journal.end(End(manifest=manifest or {}))
    return path


def final(asked, place=HERE, **fields):
    return write(asked.path.parent / replace(asked, place=place).name, place=place, **fields)


@pytest.mark.parametrize(
    "made", [Job, Named, Order, Block, Suite, RunKey, Budget, Plan], ids=lambda made: made.__name__
)
def test_what_is_asked_for_is_not_changed(made):
    fields = dict.fromkeys(made.__dataclass_fields__)
    asked = made.__new__(made)
    for name, value in fields.items():
        object.__setattr__(asked, name, value)
    with pytest.raises(FrozenInstanceError):
        setattr(asked, next(iter(fields)), 1)


@pytest.mark.parametrize(("name", "good"), [("cpu", True), ("cuda", True), ("cuda:1", True), ("tpu", False)])
def test_devices(name, good):
    if good:
        known_device(name)
    else:
        with pytest.raises(RequestError, match="there is no device 'tpu'; choose from cpu, cuda"):
            known_device(name)


def test_any_machine_s_file_will_do_unless_one_of_this_is_asked_for(tmp_path):
    asked = job(tmp_path)
    assert asked.finished() == []
    assert not asked.satisfied()
    there = final(asked, THERE)
    assert asked.finished() == [there]
    assert asked.satisfied()
    assert replace(asked, here=True).finished() == []
    assert not replace(asked, here=True).satisfied()
    here = final(asked)
    assert asked.finished() == [here, there]
    assert replace(asked, here=True).finished() == [here]
    assert replace(asked, place=THERE).finished() == [there, here]
    assert asked.record().path == here
    assert job(tmp_path / "nowhere").record().path == tmp_path / "nowhere" / asked.path.name


def test_the_outdated_file_does_not_satisfy_and_alone_is_replaced(tmp_path):
    asked = job(tmp_path)
    here = final(asked)
    old = replace(asked, outdated=mark(here))
    assert not old.satisfied()
    assert old.replaced().path == here
    assert asked.replaced() is None
    there = final(asked, THERE)
    assert old.satisfied()
    assert replace(asked, outdated=mark(there)).replaced() is None  # another machine's stays
    here.unlink()
    final(asked)
    assert old.replaced() is None


@pytest.mark.parametrize(
    ("status", "stands"),
    [
        ("done", True),
        ("diverged", True),
        ("error", True),
        ("oom", True),
        ("timeout", True),
        ("unsupported", False),
        ("lost", False),
        ("running", False),
    ],
)
def test_what_may_end_otherwise_is_made_again(tmp_path, status, stands):
    asked = job(tmp_path)
    assert asked.stands(read(final(asked, status=status))) is stands
    assert not replace(asked, key=key(engine="in_process")).stands(read(final(asked)))
    assert not asked.stands(Record(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("earlier", "now", "stands"),
    [(5.0, 5.0, True), (5.0, 4.0, True), (5.0, 6.0, False), (5.0, None, False), (None, 9.0, True)],
)
def test_more_time_is_another_try(tmp_path, earlier, now, stands):
    asked = job(tmp_path, timeout=now)
    assert asked.stands(read(final(asked, status="timeout", timeout=earlier))) is stands
    assert asked.stands(read(final(asked, status="error", timeout=earlier)))


def test_points_that_are_to_be_kept_are_there_where_the_run_is_done(tmp_path):
    asked = job(tmp_path, keep=("x", "y"))
    path = final(asked)
    assert not asked.stands(read(path))
    points.write(points.beside(path), {"x": np.zeros(1)}, {})
    assert not asked.stands(read(path))
    points.write(points.beside(path), {"x": np.zeros(1), "y": np.zeros(1)}, {})
    assert asked.stands(read(path))
    points.beside(path).unlink()
    for status in ("diverged", "error", "oom"):
        assert asked.stands(read(final(asked, status=status)))


def test_a_file_that_was_read_and_has_changed_is_another_run(tmp_path):
    asked, data, gone = job(tmp_path), tmp_path / "data.txt", str(tmp_path / "gone.txt")
    data.write_text("1")
    manifest = {str(data): hash_of(str(data))}
    assert asked.stands(read(final(asked, manifest=manifest)))
    assert not asked.stands(read(final(asked, manifest={gone: "0" * 16})))
    assert asked.stands(read(final(asked, THERE, manifest={gone: "0" * 16})))  # no path of this machine
    data.write_text("2")
    assert not asked.stands(read(final(asked, manifest=manifest)))


def test_what_is_unfinished_replaces_the_first_that_does_not_stand(tmp_path):
    asked = job(tmp_path)
    assert unfinished([asked]) == [asked]
    there = final(asked, THERE, status="lost")
    assert unfinished([asked]) == [replace(asked, outdated=mark(there))]
    here = final(asked, status="lost")
    assert unfinished([asked]) == [replace(asked, outdated=mark(here))]
    final(asked, THERE)
    assert unfinished([asked]) == []


def test_seeds_are_made_together_where_they_are_batched(tmp_path):
    jobs = [
        replace(job(tmp_path), key=key(seed=seed, engine=engine, solver=solver))
        for engine in ("eager", "batched")
        for solver in ("bome", "itd")
        for seed in (0, 1)
    ]
    assert together(jobs) == [[jobs[0]], [jobs[1]], [jobs[2]], [jobs[3]], jobs[4:6], jobs[6:]]
    prices = [Pass([made]).together for made in jobs]
    assert prices[0] == prices[1] == prices[2] != prices[4] == prices[6]
    fresh = Pass(jobs[:1])
    assert (fresh.tries, fresh.audited, fresh.auditing, fresh.watch) == (1, 0, None, None)
    others = {
        name: Pass([replace(jobs[0], key=key(**{name: 7}))])
        for name in ("problem", "problem_version", "device", "dtype", "threads")
    }
    assert all(other.together != prices[0] for other in others.values())


def test_a_last_row_is_at_the_last_look_and_counts_on(tmp_path):
    end = Ended("lost", "gone", "machine")
    before = {
        "step": 4,
        "seconds": 1.0,
        "cpu_seconds": 2.0,
        "calls": {"f": 3},
        "total_calls": 3,
        "rows": {"f": 9},
        "passes": {"forward": 3},
        "kept": {"f": 1},
        "metrics": {"phi": 1.0},
        "status": "running",
        "x": [1.0],
    }
    row = last_row(before, end)
    assert (row.step, row.seconds, row.cpu_seconds, row.calls, row.total_calls) == (4, 1.0, 2.0, {"f": 3}, 3)
    assert (row.rows, row.passes, row.kept) == ({"f": 9}, {"forward": 3}, {"f": 1})
    assert (row.status, row.reason, row.fault, row.metrics, row.x) == ("lost", "gone", "machine", {}, None)
    assert last_row({}, end) == Row(0, status="lost", reason="gone", fault="machine")


def test_a_run_that_has_ended_keeps_its_end_and_another_gets_one(tmp_path):
    asked = job(tmp_path)
    write(asked.path)
    finish(asked, Ended("error", "x", "solver"))
    assert read(asked.path).status == "done"
    for end, expected in [
        (Ended("lost", "gone", "machine"), ("lost", "gone", "machine")),
        (None, ("error", "the process left no last row", "harness")),
    ]:
        with Journal(asked.path) as journal:
            journal.begin(Header(asked.key, {"given": "p"}, {"given": "s"}, {}))
            journal.append(Row(3))
        finish(asked, end)
        row = read(asked.path).rows[-1]
        assert (row["step"], row["status"], row["reason"], row["fault"]) == (3, *expected)
