"""Names that are looked up by other processes; what is said of problems and solvers; runs in this process."""

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import PluginWarning, RequestError
from bilevelbench.core.problem import Picture
from bilevelbench.core.resolve import build_problem
from bilevelbench.run import describe, elsewhere, stage
from bilevelbench.run.describe import _drawn, describe_problem, describe_solver
from bilevelbench.run.elsewhere import PATIENCE, Elsewhere
from bilevelbench.run.inside import Inside
from bilevelbench.run.job import Job, Named, Order
from bilevelbench.run.names import check_device, full, look_up
from bilevelbench.run.stage import Stage, machine, refused, timeless
from bilevelbench.store.claims import Claims
from bilevelbench.store.journal import read
from bilevelbench.store.schema import Row
from tests.forked import forked
from tests.results_factory import key


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class Task:
    """Says its messages at their seconds and ends with a status, unless it is killed before."""

    def __init__(self, clock, messages, end, status=0):
        self._clock, self._messages, self._end, self._status = clock, list(messages), end, status
        self.status, self.closed, self.killed = None, False, False

    def heard(self):
        while self._messages and self._messages[0][0] <= self._clock.now:
            yield self._messages.pop(0)[1]

    def kill(self):
        self.killed, self._end, self._status = True, self._clock.now, 9

    def close(self):
        self.closed = True


class Processes:
    def __init__(self, clock, *tasks):
        self.clock, self.tasks, self.started, self.waited = clock, list(tasks), [], []

    def start(self, call, argument):
        self.started.append((call, argument))
        self.now = self.tasks.pop(0)
        return self.now

    def wait(self, seconds):
        self.waited.append(seconds)
        self.clock.now += 1.0
        if self.clock.now >= self.now._end:
            self.now.status = self.now._status


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(elsewhere, "time", made)
    return made


NAMED = {"named": ["bome(lr=0.1)", 2, "/a/bome.py"]}


def test_a_name_is_asked_for_once(clock):
    task = Task(clock, [(1, {"begun": True}), (2, NAMED)], 3)
    processes = Processes(clock, task)
    look = Elsewhere(processes)
    assert look("solver", "bome", 5) == Named("bome(lr=0.1)", 2, Path("/a/bome.py"))
    assert look("solver", "bome", 6).version == 2
    assert processes.started == [("bilevelbench.run.names:describe", ("solver", "bome", 5, ()))]
    assert task.closed
    assert processes.waited[0] == 60.0  # nothing was said yet, and the server may have to start
    assert max(processes.waited[1:]) <= PATIENCE


def test_its_time_runs_from_its_first_word(clock):
    task = Task(clock, [(500, {"begun": True}), (501, NAMED)], 10**9)
    look = Elsewhere(Processes(clock, task), patience=5.0)
    assert look("solver", "bome", 0).version == 2  # what was said before counts
    assert task.killed
    assert clock.now == 506.0  # and once more, until it is gone


def test_it_waits_for_no_longer_than_there_is_time(clock):
    task = Task(clock, [(0, {"begun": True})], 10**9)
    processes = Processes(clock, task)
    Elsewhere(processes, patience=1.5)("solver", "bome", 0)
    assert processes.waited == [60.0, 1.5, 0.5, 0.1]  # the last one when it had been killed


def test_patience_has_an_upper_bound(clock):
    task = Task(clock, [(0, {"begun": True})], 10**9)
    Elsewhere(Processes(clock, task), patience=1e9)("solver", "bome", 0)
    assert clock.now == PATIENCE + 2 == 62.0


def test_what_cannot_be_asked_is_named_as_it_was_given(clock):
    def named(text, sent=()):
        return Elsewhere(Processes(clock, Task(clock, [], 1, 1 << 8)), sent=sent)("solver", text, 0)

    assert named("/a/b/mine.py:s(lr=1)") == Named("mine.py:s(lr=1)", 0, Path("/a/b/mine.py"))
    assert named("bome") == Named("bome", 0, Path("."))
    sent = (("problem", "bome", "/p"), ("solver", "other", "/o"), ("solver", "bome", "/s"))
    assert named("bome", sent) == Named("bome", 0, Path("/s"))
    assert named("/a/mine.py:bome", sent).file == Path("/a/mine.py")


@pytest.mark.parametrize("number", [9, 15])
def test_who_is_killed_by_others_is_asked_again_three_times(clock, number):
    tasks = [Task(clock, [], 0, number) for _ in range(2)] + [Task(clock, [(0, NAMED)], 0)]
    processes = Processes(clock, *tasks)
    assert Elsewhere(processes)("solver", "bome", 0).version == 2
    assert len(processes.started) == 3
    processes = Processes(clock, *(Task(clock, [], 0, number) for _ in range(4)))
    assert Elsewhere(processes)("solver", "bome", 0).version == 0
    assert len(processes.started) == 3
    with pytest.raises(RequestError, match="the process was killed, 3 times"):
        _ = Elsewhere(Processes(clock, *(Task(clock, [], 0, number) for _ in range(3)))).environment


@pytest.mark.parametrize("status", [11, 1 << 8, 0])
def test_what_crashes_by_itself_is_not_asked_again(clock, status):
    processes = Processes(clock, Task(clock, [], 0, status))
    assert Elsewhere(processes)("solver", "bome", 0).version == 0
    assert len(processes.started) == 1


def test_a_refusal_is_passed_on_and_a_broken_plug_in_is_said_once(clock):
    broken = {"broken": {"kit": "kit cannot be loaded"}}
    tasks = [Task(clock, [(0, broken | {"refused": "no such solver"})], 0), Task(clock, [(0, broken | NAMED)], 0)]
    look = Elsewhere(Processes(clock, *tasks))
    with pytest.warns(PluginWarning, match="kit cannot be loaded"), pytest.raises(RequestError, match="no such solver"):
        look("solver", "bmoe", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look("solver", "bome", 0).version == 2


def test_the_machine_and_the_solvers(clock):
    tasks = [
        Task(clock, [(0, {"environment": {"place": "p", "cpu": "c"}})], 0),
        Task(clock, [(0, {"solvers": ["a"]})], 0),
    ]
    processes = Processes(clock, *tasks)
    look = Elsewhere(processes)
    assert (look.place(), look.environment["cpu"], look.solvers()) == ("p", "c", ["a"])
    assert processes.started == [
        ("bilevelbench.run.names:describe_machine", "cpu"), ("bilevelbench.run.names:describe_solvers", None),
    ]  # fmt: skip


# -- here


def test_names_in_this_process(tmp_path):
    named = look_up("solver", "bome(lr=0.02)", 0)
    assert named.spec.startswith("bome(")
    assert "lr=0.02" in named.spec
    assert named.file.name == "bome.py"
    assert look_up("device", "cpu", 0) == Named("cpu", 0, Path())
    loose = tmp_path / "mine.py"
    loose.write_text(named.file.read_text().replace('"bome"', '"mine"'))
    assert forked(lambda: full("solver", f"{loose}:mine").spec).startswith("mine.py:mine(")
    with pytest.raises(RequestError):
        look_up("problem", "quadratic(d=-1)", 0)
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="device cuda:1: this machine has no CUDA device; choose cpu"):
            check_device("cuda:1")


def test_runs_in_this_process_leave_to_others_what_they_are_making(tmp_path):
    told = []

    class Bar:
        def started(self, job):
            told.append(("started", job.key.seed))

        def finished(self, job, status):
            told.append((status, job.key.seed))

    jobs = [
        Job(key("quadratic(d=3)", "first_order", seed, engine="in_process", steps=3), "quadratic(d=3)", "first_order",
            tmp_path / f"{seed}.jsonl", place="0" * 8)
        for seed in (0, 1)
    ]  # fmt: skip
    threads = torch.get_num_threads()
    with Claims(tmp_path) as others:
        others.take(jobs[0].key.stem)
        Inside().make(tmp_path, jobs, Bar())
    assert told == [("started", 1), ("done", 1)]
    record = read(tmp_path / jobs[1].name)
    assert record.troubles == []
    assert "load" in record.end["after"]
    assert torch.get_num_threads() == threads
    assert "bome" in Inside().solvers()
    assert len(Inside().place()) == 8


def test_a_stage_is_told_as_it_begins():
    told = []
    now = Stage(lambda **said: told.append(said))
    assert now.name == ""
    now("problem")
    assert (now.name, told) == ("problem", [{"phase": "problem"}])


@pytest.mark.parametrize(("where", "fault"), [("solver", "solver"), ("setup", "problem"), ("nowhere", "harness")])
def test_who_is_at_fault_where_a_run_cannot_begin(where, fault):
    row = refused(ValueError("x"), where)
    assert (row.status, row.fault, row.step) == ("error", fault, 0)


def test_the_machine_is_measured_once(monkeypatch):
    monkeypatch.setattr(stage, "moment", lambda: {"load": [1.0]})
    assert machine(Order([], {"cpu": "c", "load": [0.0]}), "cpu") == {"cpu": "c", "load": [1.0]}
    found = machine(Order([]), "cpu")
    assert {"place", "clock", "cpu"} <= {*found}


def test_without_seconds_there_are_none_at_all():
    row = timeless(Row(3, 1.0, 2.0, judge_seconds=3.0, overhead_seconds=4.0, compile_seconds=5.0))
    assert (row.seconds, row.cpu_seconds, row.judge_seconds, row.overhead_seconds, row.compile_seconds) == (None,) * 5
    assert row.step == 3


def test_memory_is_limited_to_what_is_there(monkeypatch):
    import resource

    set_ = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: set_.append((what, limits)))
    monkeypatch.setattr(stage.psutil, "virtual_memory", lambda: type("M", (), {"available": 12345}))
    stage.keep_to_memory()
    assert set_ == [(resource.RLIMIT_DATA, (12345, resource.getrlimit(resource.RLIMIT_DATA)[1]))]
    monkeypatch.setattr(stage.sys, "platform", "darwin")
    stage.keep_to_memory()
    assert len(set_) == 1


# -- what a header says


def test_a_solver_in_words():
    found = describe_solver("bome(lr=0.02, phi='norm')")
    assert (found["name"], found["given"]) == ("bome", "bome(lr=0.02, phi='norm')")
    assert found["asked"] == {"lr": 0.02, "phi": "norm"}
    assert found["knobs"]["lr"] == 0.02
    assert "lr" not in found["choices"]  # numbers are no choices
    assert found["order"] == 1
    assert "\n" not in found["about"]
    assert describe_solver("bome")["choices"] == {}
    other = {"norm": "gap", "gap": "norm"}.get(describe_solver("bome")["knobs"]["phi"], "norm")
    assert describe_solver(f"bome(phi={other!r})")["choices"] == {"phi": other}


def test_a_problem_in_words(monkeypatch):
    problem = build_problem("quadratic(d=3)", Draw(0))
    found = describe_problem("quadratic(d=3)", problem, True)
    assert (found["name"], found["n_x"], found["n_y"]) == ("quadratic", problem.x0.numel(), problem.y0.numel())
    assert (found["references"], found["bar"], found["picture"]) == ({}, None, None)
    assert found["flags"] == sorted(problem.flags)
    pictured = dataclasses.replace(
        problem, picture=Picture((("x", 0), ("y", 1)), lambda u, v: u + 10 * v, (0.0, 1.0, 2.0, 4.0), "sum"),
        references=lambda: {"line": {"phi": 1.0}},
    )  # fmt: skip
    assert describe_problem("quadratic(d=3)", pictured, False)["picture"] is None
    assert describe_problem("quadratic(d=3)", pictured, False)["references"] == {"line": {"phi": 1.0}}
    monkeypatch.setattr(describe, "GRID", 3)
    drawn = describe_problem("quadratic(d=3)", pictured, True)["picture"]
    assert drawn == _drawn(pictured.picture)
    assert (drawn["u"], drawn["v"]) == ([0.0, 0.5, 1.0], [2.0, 3.0, 4.0])
    assert drawn["level"] == [[20.0, 20.5, 21.0], [30.0, 30.5, 31.0], [40.0, 40.5, 41.0]]
    assert drawn["labels"] == ["x[0]", "y[1]"]
    assert (drawn["solution"], drawn["outline"], drawn["label"]) == (None, [], "sum")
    assert _drawn(dataclasses.replace(pictured.picture, solution=(0.5, 1.0)))["solution"] == [0.5, 1.0]
