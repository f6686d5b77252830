"""The driver's decisions, with processes that only say what they are told to."""

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.run import drive
from bilevelbench.run.drive import AUDIT, MAKE, Driver, make_folder
from bilevelbench.run.job import Job
from bilevelbench.store.claims import Claims
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import Row
from tests.results_factory import key, write_run

SOUND = {"ok": True, "from": 0, "to": 1}


class Scripted:
    """A task that has done its work when it is first waited for."""

    def __init__(self, messages, status):
        self._messages, self._last, self.status, self.closed = list(messages), status, None, False

    def heard(self):
        said, self._messages = self._messages, []
        return said

    def kill(self):
        pass

    def close(self):
        self.closed = True


class Processes:
    """Starts tasks by a script: for each start of a call what is done to the order's file, said, and the end."""

    def __init__(self, **scripts):
        self.scripts, self.started, self.running, self.waited, self.most = scripts, [], [], [], 0

    def start(self, call, order):
        name = {MAKE: "make", AUDIT: "audit"}[call]
        self.started.append((name, order))
        plan = self.scripts[name]
        act = plan.pop(0) if len(plan) > 1 else plan[0]
        task = Scripted(*act(order))
        self.running.append(task)
        self.most = max(self.most, len(self.running))
        return task

    def wait(self, seconds):
        self.waited.append(seconds)
        task = self.running.pop(0)
        task.status = task._last


def making(status="done", steps=True, messages=(), end=0, through=True):
    """A process that writes a row with a status for each run, and the states of two windows."""

    def act(order):
        for job in order.jobs:
            with Journal(job.path) as journal:
                journal.append(Row(0, calls={"f": 1}, total_calls=1))
                if status:
                    journal.append(Row(1, calls={"f": 2}, total_calls=2, status=status))
        if steps:
            order.states.mkdir(parents=True)
            (order.states / "0-1.pt").touch()
        return [*messages, *([{"phase": "through"}] if through else [{"phase": "steps"}])], end

    return act


def auditing(found=SOUND, end=0, through=True):
    return lambda order: ([*([{"audit": found}] if found else []), {"phase": "through" if through else "audit"}], end)


@pytest.fixture
def driven(tmp_path):
    def run(jobs=1, workers=1, **scripts):
        scripts = {"make": [making()], "audit": [auditing()]} | scripts
        processes = Processes(**scripts)
        made = [job(tmp_path, seed) for seed in range(jobs)]
        ended, begun = [], []
        driver = Driver(
            tmp_path, processes, {"cpu": "c"}, workers, lambda job: begun.append(job.key.seed),
            lambda job, status: ended.append((job.key.seed, status)),
        )  # fmt: skip
        driver.run(made)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.suffix == ".part"]
        return processes, made, begun, ended

    return run


def job(folder, seed=0, **fields):
    made = key(seed=seed)
    return Job(made, "quadratic", "bome", folder / f"{made.stem}.jsonl", place="0" * 8, timeout=9.0, **fields)


CORES = int(hasattr(os, "sched_getaffinity"))  # that a run of one thread holds


def make_held(processes):
    return next(order for name, order in processes.started if name == "make").environment.get("held", [])


def names(processes):
    return [name for name, _ in processes.started]


def test_a_run_is_made_audited_and_published_with_all_that_was_said(driven):
    messages = [
        {"files": {"a": "1"}},
        {"files": {"b": "2"}},
        {"memory": {"peak_bytes": 3}},
        {"prices": {"f": [1.0, 0.0]}},
    ]
    processes, (made,), begun, ended = driven(make=[making(messages=messages)])
    assert names(processes) == ["make", "audit"]
    assert (begun, ended) == ([0], [(0, "done")])
    record = read(made.path.parent / made.name)
    assert record.troubles == []
    assert record.end["manifest"] == {"a": "1", "b": "2"}
    assert record.end["memory"] == {"peak_bytes": 3}
    assert record.end["audit"] == SOUND
    assert (record.end["attempts"], record.header["timeout"]) == (1, 9.0)
    held = make_held(processes)
    assert record.header["environment"] == {"cpu": "c"} | ({"held": held} if CORES else {})
    assert len(held) == CORES
    make, audit = (order for _, order in processes.started)
    assert (make.window, make.prices, make.audited) == (None, None, 0)
    assert audit.window == (0, 1)
    assert audit.states == make.states
    assert not make.states.exists()


def test_prices_of_one_problem_are_measured_once(driven):
    processes, *_ = driven(jobs=2, make=[making(messages=[{"prices": {"f": [1.0, 0.0]}}])])
    assert [order.prices for name, order in processes.started if name == "make"] == [None, {"f": [1.0, 0.0]}]


def test_so_many_processes_at_a_time_and_in_the_order_asked_for(driven):
    processes, _, begun, ended = driven(jobs=5, workers=2)
    assert begun == [0, 1, 2, 3, 4]
    assert {status for _, status in ended} == {"done"}
    assert processes.most == 2


def test_what_is_lost_is_made_again_twice(driven):
    lost = making(status="", end=9, through=False)
    processes, (made,), begun, ended = driven(make=[lost, lost, making()])
    assert names(processes) == ["make", "make", "make", "audit"]
    assert (begun, ended) == ([0], [(0, "done")])
    record = read(made.path.parent / made.name)
    assert record.end["attempts"] == 3
    assert len(record.rows) == 2


def test_what_is_lost_three_times_is_lost(driven):
    processes, (made,), _, ended = driven(make=[making(status="", end=9, through=False)])
    assert names(processes) == ["make"] * 3
    assert ended == [(0, "lost")]
    row = read(made.path.parent / made.name).rows[-1]
    assert (row["fault"], row["step"]) == ("machine", 0)


def test_a_full_disk_ends_the_driver_and_says_nothing_of_the_run(driven, tmp_path):
    full = making(status="", messages=[{"full": "/tmp/x/0-1.pt"}])
    with pytest.raises(RequestError, match=r"/tmp/x/0-1.pt cannot be written: the disk is full; the same command"):
        driven(make=[full])
    assert not list(tmp_path.glob("*.jsonl"))
    assert not list(tmp_path.glob(".claim-*"))
    _, (made,), _, ended = driven()
    assert (ended, read(made.path.parent / made.name).end["attempts"]) == ([(0, "done")], 1)


def test_a_crash_is_the_last_row_and_not_made_again(driven):
    processes, (made,), _, ended = driven(make=[making(status="", end=11, through=False)])
    assert names(processes) == ["make"]
    assert ended == [(0, "error")]
    assert read(made.path.parent / made.name).rows[-1]["reason"] == "the process crashed with signal 11 in its steps"


@pytest.mark.parametrize(
    ("status", "audited"), [("done", 1), ("diverged", 1), ("timeout", 1), ("error", 0), ("oom", 0)]
)
def test_what_ended_by_steps_is_audited(driven, status, audited):
    processes, _, _, ended = driven(make=[making(status)])
    assert names(processes).count("audit") == audited
    assert ended == [(0, status)]


def test_without_steps_there_is_nothing_to_audit(driven):
    processes, _, _, ended = driven(make=[making(steps=False)])
    assert names(processes) == ["make"]
    assert ended == [(0, "done")]


@pytest.mark.parametrize(
    ("found", "end", "through", "expected"),
    [
        ({"ok": False, "reason": "it cheats", "fault": "problem"}, 0, True, ("error", "it cheats", "problem")),
        ({"ok": False, "reason": "it cheats"}, 0, True, ("error", "it cheats", "solver")),
        (None, 0, True, ("error", "its audit ended without a word", "harness")),
        (SOUND, 11, False, ("error", "its audit failed: the process crashed with signal 11", "harness")),
    ],
)
def test_what_an_audit_finds_is_the_last_word(driven, found, end, through, expected):
    _, (made,), _, ended = driven(audit=[auditing(found, end, through)])
    row = read(made.path.parent / made.name).rows[-1]
    assert (row["status"], row["reason"], row["fault"]) == expected
    assert row["step"] == 1
    assert ended == [(0, "error")]


def test_an_audit_that_is_lost_is_made_again_alone(driven):
    lost = auditing(None, 9, through=False)
    processes, _, _, ended = driven(audit=[lost, auditing()])
    assert names(processes) == ["make", "audit", "audit"]
    windows = {order.window for name, order in processes.started if name == "audit"}
    assert windows == {(0, 1)}
    assert ended == [(0, "done")]


def test_an_audit_that_is_lost_three_times_is_said(driven):
    processes, (made,), _, ended = driven(audit=[auditing(None, 9, through=False)])
    assert names(processes) == ["make", "audit", "audit", "audit"]
    assert ended == [(0, "lost")]
    assert read(made.path.parent / made.name).end["attempts"] == 3


def test_what_is_there_is_not_made(driven, tmp_path):
    driven()
    processes, _, begun, ended = driven()
    assert (names(processes), begun, ended) == ([], [], [(0, "done")])
    assert processes.waited == []  # for nobody


def test_what_another_command_makes_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "AGAIN", 0.02)
    other = Claims(tmp_path)
    claim = other.take(job(tmp_path).key.stem)
    part = replace(job(tmp_path), path=claim.part(job(tmp_path).name))

    class Waiting(Processes):
        def wait(self, seconds):
            self.waited.append(seconds)
            assert len(self.waited) < 1000
            time.sleep(seconds)
            if len(self.waited) == 2:  # the other command is through
                write_run(tmp_path).rename(part.path)
                claim.publish(job(tmp_path).name)
                claim.release()

    processes, ended = Waiting(), []
    Driver(tmp_path, processes, {}, 1, lambda job: None, lambda job, status: ended.append(status)).run([job(tmp_path)])
    other.close()
    assert ended == ["done"]
    assert processes.started == []
    assert {*processes.waited} == {0.02}


def test_it_listens_until_the_next_deadline(tmp_path, monkeypatch):
    processes = Processes(make=[making()], audit=[auditing()])
    driver = Driver(tmp_path, processes, {}, 1, lambda job: None, lambda job, status: None, patience=5.0)
    driver.run([job(tmp_path)])
    assert 4.0 < processes.waited[0] <= 5.0
    processes = Processes(make=[making()], audit=[auditing()])
    Driver(tmp_path, processes, {}, 1, lambda job: None, lambda job, status: None).run([job(tmp_path, 1)])
    assert processes.waited[0] == drive.LOOK == 30.0


def test_a_folder_must_be_one_that_can_be_written_and_hold_nothing_foreign(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert not [*(tmp_path / "a" / "b").iterdir()]
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"out .*file cannot be written \(.*\); name a folder that you can write"):
        make_folder(tmp_path / "file")
    folder = tmp_path / "a"
    (folder / "empty.jsonl").touch()  # begun by a command that was killed at once
    write_run(folder)
    make_folder(folder)
    (folder / "bad.jsonl").write_text("x")
    with pytest.raises(RequestError, match="no header in line 1"):
        make_folder(folder)


def test_the_probe_of_a_folder_touches_nothing_that_lies_there(tmp_path, monkeypatch):
    monkeypatch.setattr(drive.secrets, "token_hex", lambda n: "0" * (2 * n))
    probe = tmp_path / f".probe-{'0' * 16}"
    target = tmp_path / "target"
    target.write_text("mine")
    probe.symlink_to(target)
    with contextlib.suppress(RequestError):
        make_folder(tmp_path)
    assert target.read_text() == "mine"
    assert os.path.islink(probe)
    assert isinstance(tmp_path, Path)
