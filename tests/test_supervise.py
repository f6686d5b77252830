"""One process as its driver sees it: its limits to the second, and what its end means."""

import signal

import pytest

from bilevelbench.run import supervise
from bilevelbench.run.supervise import FAULTS, TIMED, WORDS, Watch, kills_for_memory


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class Told:
    """A task that says what it is told to."""

    def __init__(self):
        self.messages, self.status, self.killed = [], None, 0

    def heard(self):
        said, self.messages = self.messages, []
        return said

    def kill(self):
        self.killed += 1


@pytest.fixture
def watched(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(supervise, "time", clock)
    monkeypatch.setattr(supervise, "kills_for_memory", lambda: clock.kills)
    clock.kills = 3

    def make(limit=10.0, others=100.0):
        task, heard = Told(), []
        watch = Watch(task, limit, heard.append, others)

        def go(phase, seconds=0.0):
            task.messages.append({"phase": phase})
            watch.listen()
            clock.now += seconds

        return watch, task, go, heard

    make.clock = clock
    return make


def test_what_is_no_phase_is_passed_on(watched):
    watch, task, _, heard = watched()
    task.messages = [{"prices": 1}, {"phase": "steps"}, {"memory": 2}]
    watch.listen()
    assert heard == [{"prices": 1}, {"memory": 2}]
    assert watch.phase == "steps"


def test_the_solver_s_phases_share_one_limit(watched):
    watch, task, go, _ = watched()
    watched.clock.now = 5.0
    go("init", 1.0)
    go("warmup", 2.0)
    go("memory", 3.0)
    go("judge", 50.0)
    go("steps")
    assert watch.deadline == watched.clock.now + 10.0 - 6.0
    watched.clock.now += 3.9
    watch.end_late()
    assert not task.killed
    watched.clock.now = watch.deadline
    watch.end_late()
    assert task.killed == 1
    assert watch.deadline == float("inf")
    watch.end_late()
    assert task.killed == 1


def test_each_other_phase_has_a_limit_of_its_own(watched):
    watch, task, go, _ = watched()
    assert watch.deadline == 100.0  # before it has said anything
    go("setup", 60.0)
    go("judge", 30.0)
    go("setup")
    assert watch.deadline == 90.0 + 100.0 - 60.0
    go("judge")
    assert watch.deadline == 90.0 + 100.0 - 30.0
    watched.clock.now = watch.deadline
    watch.end_late()
    task.status = int(signal.SIGKILL)
    assert watch.end() == ("timeout", "stopped after the time limit of 100 s while it was judged", "problem")


def test_without_a_limit_the_solver_has_all_the_time_there_is(watched):
    watch, task, go, _ = watched(limit=None)
    go("steps", 1e9)
    assert watch.deadline == float("inf")
    watch.end_late()
    assert not task.killed
    go("judge")
    assert watch.deadline == 1e9 + 100.0


def test_a_phase_without_words_is_stopped_without_any(watched):
    watch, task, go, _ = watched()
    go("audit", 100.0)
    watch.end_late()
    task.status = int(signal.SIGKILL)
    assert watch.end() == ("timeout", "stopped after the time limit of 100 s", "harness")


@pytest.mark.parametrize("number", [9, 15, 1, 2, 3])
def test_signals_from_outside_are_nobody_s_fault_unless_memory_was_short(watched, number):
    watch, task, go, _ = watched()
    go("steps")
    task.status = number
    assert watch.end() == ("lost", f"the process was killed from outside, with signal {number}", "machine")
    watched.clock.kills = 4
    assert watch.end() == ("oom", "the system killed the process for want of memory in its steps", "solver")
    watched.clock.kills = 2
    assert watch.end().status == "lost"


@pytest.mark.parametrize("number", [4, 6, 7, 8, 11, 14])
def test_other_signals_are_crashes(watched, number):
    watch, task, go, _ = watched()
    go("judge")
    task.status = number
    watched.clock.kills = 9
    assert watch.end() == ("error", f"the process crashed with signal {number} while it was judged", "problem")


@pytest.mark.parametrize(
    ("phase", "status", "expected"),
    [
        ("through", 0, None),
        ("through", 1 << 8, ("error", "the process ended with exit code 1", "harness")),
        ("steps", 0, ("error", "the process ended with exit code 0 in its steps", "solver")),
        ("", 0, ("error", "the process ended with exit code 0", "harness")),
    ],
)
def test_a_process_is_through_or_has_failed(watched, phase, status, expected):
    watch, task, go, _ = watched()
    go(phase)
    task.status = status
    assert watch.end() == expected


def test_every_phase_of_somebody_has_words_and_the_timed_ones_are_the_solver_s():
    assert set(FAULTS) == set(WORDS)
    assert {phase for phase in TIMED if FAULTS[phase] == "solver"} == set(TIMED)
    assert supervise.OTHERS == 600.0


CGROUPS = [  # /proc/self/cgroup, the files that there are, how many kills
    ("0::/a\n", {"/sys/fs/cgroup/a/memory.events": "low 0\noom_kill 3\n"}, 3),
    ("0::/a\n", {"/sys/fs/cgroup/memory.events": "oom_kill 4\n"}, 4),  # in a container
    ("0::/a\n", {"/sys/fs/cgroup/a/memory.events": "oom_kill 5\n", "/sys/fs/cgroup/memory.events": "oom_kill 6\n"}, 5),
    ("0::/a\n", {"/sys/fs/cgroup/a/memory.events": "low 0\n"}, 0),
    ("0::/a\n", {}, 0),
    ("4:cpu:/x\n3:memory,hugetlb:/b\n", {"/sys/fs/cgroup/memory/b/memory.oom_control": "under_oom 0\noom_kill 7\n"}, 7),
    ("4:cpu:/b\n", {"/sys/fs/cgroup/memory/b/memory.oom_control": "oom_kill 7\n"}, 0),
    ("1:name=x:/a\n0::/a\n", {"/sys/fs/cgroup/a/memory.events": "oom_kill 8\n"}, 8),
    (None, {}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("groups", "files", "kills"), CGROUPS)
def test_kills_for_memory_are_counted_where_the_system_says_them(monkeypatch, groups, files, kills):
    there = files | ({"/proc/self/cgroup": groups} if groups is not None else {})

    def read_text(path):
        if str(path) not in there:
            raise FileNotFoundError
        return there[str(path)]

    monkeypatch.setattr(supervise.Path, "read_text", read_text)
    assert kills_for_memory() == kills
