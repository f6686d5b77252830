"""Tasks and their names: messages, ends, and what is said of solvers; forks and interpreters alike."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

from bilevelbench.core.errors import RequestError
from bilevelbench.core.registry import SOLVERS
from bilevelbench.measure import clock
from bilevelbench.run import child, names, server
from bilevelbench.run.child import ForkServer, Interpreters, Task, Teller, _message, processes
from bilevelbench.run.job import Named
from bilevelbench.run.plan import expand
from bilevelbench.run.send import Sender
from bilevelbench.run.suite import Block, Suite
from tests.forked import forked


def test_a_task_s_messages_are_heard_as_they_are():
    said = [b'{"a": 1}', b"[1]", b"no json", b'{"b": 2}', None, b'{"c": 3}', b""]
    task = Task(None, lambda: said.pop(0), lambda: None)
    assert list(task.heard()) == [{"a": 1}, {"b": 2}]
    assert not task.mute
    assert list(task.heard()) == [{"c": 3}]
    assert task.mute


def test_whoever_speaks_to_nobody_goes_on():
    sent = []
    Teller(sent.append)(phase="steps", n=1)
    assert json.loads(sent[0]) == {"phase": "steps", "n": 1}

    def fails(message):
        raise BrokenPipeError

    Teller(fails)(phase="steps")


def test_a_socket_is_asked_without_waiting():
    ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert _message(ear) is None
    mouth.send(b"x")
    assert _message(ear) == b"x"
    mouth.close()
    assert _message(ear) == b""
    ear.close()


class Process:
    """A server that has ended, or does not end when its door is closed."""

    def __init__(self, ends=True):
        self.ends, self.killed, self.waited = ends, 0, []

    def poll(self):
        return 0

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if not self.ends and not self.killed:
            raise subprocess.TimeoutExpired("server", timeout)

    def kill(self):
        self.killed += 1


@pytest.mark.parametrize(("ends", "killed", "waited"), [(True, 0, [10]), (False, 1, [10, None])])
def test_a_server_that_does_not_end_is_killed(ends, killed, waited):
    made = ForkServer()
    made._door, made._process = socket.socket(), Process(ends)
    process = made._process
    made.__exit__()
    assert (process.killed, process.waited) == (killed, waited)
    ForkServer().__exit__()  # none was ever needed


def test_tasks_of_a_server_that_is_gone_were_killed_and_a_new_one_is_started(monkeypatch):
    made = ForkServer()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made._door, made._process = here, Process()
    lost = Task(here, lambda: None, lambda: None)
    made._tasks = {1: lost}
    opened = []
    monkeypatch.setattr(made, "_open", lambda: opened.append(1) or setattr(made, "_door", there))
    task = made.start("a:b", 1)
    assert lost.status == signal.SIGKILL
    assert (opened, made._tasks, task.status) == ([1], {1: task}, None)
    task.close()
    there.close()


def test_without_a_server_there_is_nothing_to_wait_for(monkeypatch):
    slept = []
    monkeypatch.setattr(child.time, "sleep", slept.append)
    ForkServer().wait(0.25)
    ForkServer().wait()
    assert slept == [0.25, 0.0]


def test_ends_are_those_that_the_server_tells():
    made = ForkServer()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made._door, made._process = here, Process()
    ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    first, second = (Task(ear, lambda: None, lambda: None) for _ in range(2))
    made._tasks = {1: first, 2: second}
    for number, status in ((2, 7), (9, 1)):
        there.send(json.dumps([number, status]).encode())
    made.wait(0.0)
    assert (first.status, second.status, made._tasks) == (None, 7, {1: first})
    there.close()
    made.wait(0.0)
    assert (first.status, made._process, made._tasks) == (signal.SIGKILL, None, {})
    mouth.close()
    ear.close()


def test_what_still_runs_is_ended():
    class Running:
        killed = joined = 0

        def kill(self):
            self.killed += 1

        def join(self):
            self.joined += 1

    made, running = Interpreters(), Running()
    made._running = [(running, None)]
    made.__exit__()
    assert (running.killed, running.joined) == (1, 1)
    assert all(os.environ[name] == "1" for name in child.THREADS)
    assert isinstance(processes(), ForkServer if sys.platform == "linux" else Interpreters)


def test_a_task_of_an_orphaned_server_is_not_begun():
    def orphan():
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            server.lone(os.getppid() + 1)
            os.write(writer, b"went on")
            os._exit(0)
        os.close(writer)
        status = os.waitpid(pid, 0)[1]
        return os.read(reader, 10).decode(), os.waitstatus_to_exitcode(status)

    assert forked(orphan) == ("", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="children are listed in /proc")
def test_children_are_listed_and_ended():
    def run():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        listed = server._children() == [pid]
        server._end_all([pid, 2**22 + 1])
        return listed, os.WTERMSIG(os.waitpid(pid, 0)[1])

    assert forked(run) == (True, signal.SIGKILL)
    server._end(2**22 + 1)  # gone already


def test_solvers_are_named_by_a_task():
    said = []
    with warnings.catch_warnings():
        names.describe_solvers(None, lambda **message: said.append(message))
    assert said[0] == {"begun": True}
    assert "bome" in said[1]["solvers"]
    assert said[1]["broken"] == SOLVERS.broken


def test_devices_other_than_the_cpu_are_asked_for_once():
    asked = []

    def ask(kind, text, seed):
        asked.append((kind, text, seed))
        raise RequestError("stop")

    blocks = tuple(Block(("p",), ("s",), steps=1, device=device) for device in ("cpu", "cuda", "cuda"))
    with pytest.raises(RequestError, match="stop"):
        expand(Suite("n", "a", blocks), None, ask=ask)
    assert asked == [("device", "cuda", 0)]
    with pytest.raises(RequestError, match="there is no device 'tpu'"):
        expand(Suite("n", "a", (Block(("p",), ("s",), steps=1, device="tpu"),)), None, ask=ask)
    with pytest.raises(RequestError, match="keep needs runs of their own"):
        expand(Suite("n", "a", (Block(("p",), ("s",), steps=1, engine="batched"),)), None, ask=ask, keep=("x",))


def test_names_are_asked_for_with_the_first_seed(tmp_path):
    asked = []

    def ask(kind, text, seed):
        asked.append((kind, text, seed))
        return Named(text, 1, Path(__file__))

    suite = Suite("n", "a", (Block(("p", "q"), ("s", "t"), (3, 4), steps=1),))
    jobs = expand(suite, tmp_path, "command", 9.0, True, ask, lambda: "place")
    assert asked == [("solver", "s", 0), ("solver", "t", 0), ("problem", "p", 3), ("problem", "q", 3)]
    assert [(job.problem, job.key.seed, job.solver) for job in jobs[:5]] == [
        ("p", 3, "s"), ("p", 3, "t"), ("p", 4, "s"), ("p", 4, "t"), ("q", 3, "s"),
    ]  # fmt: skip
    assert len(jobs) == 8
    told = {(job.command, job.timeout, job.place, job.here, job.suite, job.keep, job.sent) for job in jobs}
    assert told == {("command", 9.0, "place", True, "n", (), ())}
    twice = expand(Suite("n", "a", suite.blocks * 2), tmp_path, ask=ask)
    assert len(twice) == 8
    assert (twice[0].place, twice[0].here, twice[0].command) == ("", False, "")


def test_what_cannot_be_pickled_is_another_thing_each_time():
    lock = threading.Lock()
    with Sender() as sender:
        one, other = (sender._digest(lambda rng: lock) for _ in range(2))
    assert one != other
    assert len(one) == len(other) == 16


# -- a device that is not there


def test_kernels_are_held_to_what_the_device_says(monkeypatch):
    now, spun = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = now[0]

        def elapsed_time(self, other):
            return 1e3 * (other.at - self.at)

    def spin(cycles):
        spun.append(cycles)
        now[0] += 1.0

    monkeypatch.setattr(torch.cuda, "_sleep", spin, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(clock, "drain", lambda device: lambda: None)
    watched = clock.Stopwatch
    monkeypatch.setattr(clock, "Stopwatch", lambda wait: watched(wait, lambda: now[0], lambda: now[0]))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    found = clock._kernels("cuda")
    assert found == {"kernels": 20.0, "kernels_by_events": 20.0, "kernels_launched": 20.0}
    assert spun == [1000, *[2_000_000] * clock.KERNELS]
    monkeypatch.setattr(clock, "_timed", lambda work: {"wall": 0.02, "cpu": 0.02 * (work is clock._spin), "held": True})
    for read, ok in ((0.979, False), (0.981, True)):
        kernels = {"kernels": read, "kernels_by_events": 1.0}
        monkeypatch.setattr(clock, "_kernels", lambda device, kernels=kernels: kernels)
        assert clock.self_check.__wrapped__("cuda")["ok"] is ok
