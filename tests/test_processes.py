"""Tasks in processes of their own: what one does reaches no other, and none outlives whoever wanted it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.run import supervise
from bilevelbench.run.child import ForkServer, Interpreters
from bilevelbench.run.elsewhere import Elsewhere
from bilevelbench.run.supervise import Watch
from tests.forked import Forks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork server is Linux's")
PATIENCE = 300  # seconds: the machine may be busy


@pytest.fixture(scope="module")
def server():
    with ForkServer() as started:
        yield started


def name(call):
    """What a function is called in the process that is to import it."""
    return f"{call.__module__}:{call.__qualname__}"


def done(server, call, argument=None, kill_when=None):
    """Everything that a task said, and its wait status."""
    task, said, end = server.start(name(call), argument), [], time.monotonic() + PATIENCE
    while task.status is None:
        assert time.monotonic() < end
        server.wait(1.0)
        said += task.heard()
        if kill_when and kill_when(said):
            task.kill()
    said += task.heard()
    task.close()
    return said, task.status


# -- tasks; they run in forked processes


def answer(argument, tell):
    tell(answer=2 * argument)


def change_everything(_, tell):
    """What a careless run leaves behind: the working directory, limits, patched modules, globals, a default dtype."""
    import resource

    import torch

    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    torch.set_default_dtype(torch.float64)
    torch.zeros_like = None
    os.environ["LEFT_BEHIND"] = "1"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def look_around(_, tell):
    import resource

    import torch

    tell(
        cwd=os.getcwd(), files=resource.getrlimit(resource.RLIMIT_NOFILE)[0], dtype=str(torch.get_default_dtype()),
        patched=torch.zeros_like is None, left=os.environ.get("LEFT_BEHIND"), pid=os.getpid(), session=os.getsid(0),
        threads=len(os.listdir("/proc/self/task")), term=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    )  # fmt: skip


def second_derivative(_, tell):
    import torch

    begin = time.process_time()
    x = torch.ones(2, requires_grad=True)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    torch.autograd.grad(g, (x,), torch.ones(2), materialize_grads=True)
    tell(seconds=time.process_time() - begin, imported="sympy" in sys.modules)


def crash(_, tell):
    tell(phase="steps")
    ctypes.string_at(0)


def leave(code, tell):
    tell(phase="steps")
    os._exit(code)


def raise_exit(_, tell):
    raise SystemExit(0)


def mute(_, tell):
    """Close every descriptor but the standard ones, and stay."""
    os.closerange(3, 256)
    time.sleep(0.5)


def have_children(_, tell):
    """One child in the same session and one in a session of its own, then hold the interpreter lock for ever."""
    children = [subprocess.Popen(["sleep", "3600"]), subprocess.Popen(["sleep", "3600"], start_new_session=True)]
    tell(pids=[os.getpid(), *(child.pid for child in children)])
    ctypes.PyDLL(None).sleep(3600)


# -- tests


def gone(pid):
    """Whether a process has ended, be it not yet reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until_gone(pids):
    end = time.monotonic() + PATIENCE
    while not all(map(gone, pids)):
        assert time.monotonic() < end, f"{pids} are still there"
        time.sleep(0.05)


def test_a_task_answers(server):
    assert done(server, answer, 21) == ([{"answer": 42}], 0)


def test_what_a_task_changes_reaches_no_other(server):
    before, _ = done(server, look_around)
    done(server, change_everything)
    (after,), _ = done(server, look_around)
    assert after["pid"] != before[0]["pid"]
    assert {k: v for k, v in after.items() if k not in ("pid", "session")} == {
        k: v for k, v in before[0].items() if k not in ("pid", "session")
    }
    assert (after["patched"], after["left"], after["threads"], after["term"]) == (False, None, 1, True)
    assert after["session"] == after["pid"]


def test_a_task_imports_nothing_in_its_first_second_order_product(server):
    ((said,), _) = done(server, second_derivative)
    assert said["imported"], "torch imports sympy there: the server has done so"
    assert said["seconds"] < 0.5


def test_ends_are_told_apart(server, capfd):
    assert os.WTERMSIG(done(server, crash)[1]) == signal.SIGSEGV
    assert os.waitstatus_to_exitcode(done(server, leave, 3)[1]) == 3
    assert os.waitstatus_to_exitcode(done(server, raise_exit)[1]) == 1
    capfd.readouterr()


def test_a_task_that_closes_its_mouth_is_waited_for(server):
    assert done(server, mute) == ([], 0)


def test_a_killed_task_takes_its_children_with_it(server):
    said, status = done(server, have_children, kill_when=bool)
    assert os.WTERMSIG(status) == signal.SIGKILL
    wait_until_gone(said[0]["pids"])


DRIVER = """
import sys
from bilevelbench.run.child import ForkServer
with ForkServer() as server:
    task = server.start("tests.test_processes:have_children", None)
    while True:
        server.wait(1.0)
        for said in task.heard():
            print(*said["pids"], server._process.pid, flush=True)
"""


@pytest.mark.parametrize("victim", ["driver", "server"])
def test_tasks_die_with_whoever_wanted_them(victim):
    """By SIGKILL, of a task that holds the interpreter lock and has children in other sessions."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    *pids, server = map(int, driver.stdout.readline().split())
    try:
        if victim == "driver":
            driver.kill()
            wait_until_gone([*pids, server])
        else:
            os.kill(server, signal.SIGKILL)
            wait_until_gone(pids[:1])  # its children are nobody's then, and are left to themselves
            for pid in pids[1:]:
                os.kill(pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.communicate()


def test_a_server_that_was_killed_is_started_again():
    with ForkServer() as server:
        task = server.start(name(have_children), None)
        server._process.kill()
        end = time.monotonic() + PATIENCE
        while task.status is None and time.monotonic() < end:
            server.wait(1.0)
        assert os.WTERMSIG(task.status) == signal.SIGKILL
        assert done(server, answer, 1) == ([{"answer": 2}], 0)


def test_where_there_is_no_fork_a_task_is_an_interpreter():
    with Interpreters() as started:
        said, status = done(started, answer, 4)
        assert (said, status) == ([{"answer": 8}], 0)
        assert os.waitstatus_to_exitcode(done(started, leave, 3)[1]) == 3


# -- what an end means


class Done:
    """A task that has ended, having said some things."""

    def __init__(self, status, *messages):
        self.status, self._messages, self.killed = status, list(messages), False

    def heard(self):
        said, self._messages = self._messages, []
        return said

    def kill(self):
        self.killed = True


def end_of(status, *phases, kills=0, monkeypatch=None):
    watch = Watch(Done(status, *({"phase": phase} for phase in phases)), 60.0, lambda message: None)
    if kills:
        monkeypatch.setattr(supervise, "kills_for_memory", lambda: kills)
    watch.listen()
    return watch.end()


@pytest.mark.parametrize(
    ("status", "phase", "expected"),
    [
        (0, "through", None),
        (0, "steps", ("error", "solver", "exit code 0 in its steps")),
        (256, "setup", ("error", "problem", "exit code 1 while the problem was built")),
        (signal.SIGSEGV, "steps", ("error", "solver", "signal 11 in its steps")),
        (signal.SIGABRT, "judge", ("error", "problem", "signal 6 while it was judged")),
        (signal.SIGSEGV, "audit", ("error", "harness", "signal 11")),
        (signal.SIGKILL, "steps", ("lost", "machine", "killed from outside, with signal 9")),
        (signal.SIGTERM, "steps", ("lost", "machine", "killed from outside, with signal 15")),
        (signal.SIGHUP, "", ("lost", "machine", "killed from outside, with signal 1")),
    ],
)
def test_an_end_is_charged_to_whoever_was_running(status, phase, expected):
    end = end_of(int(status), phase)
    if expected is None:
        assert end is None
    else:
        assert (end.status, end.fault) == expected[:2]
        assert expected[2] in end.reason


def test_memory_is_blamed_on_evidence_only(monkeypatch):
    monkeypatch.setattr(supervise, "kills_for_memory", lambda: 0)
    watch = Watch(Done(int(signal.SIGKILL), {"phase": "steps"}), 60.0, lambda message: None)
    watch.listen()
    assert watch.end().status == "lost"
    monkeypatch.setattr(supervise, "kills_for_memory", lambda: 1)
    assert (watch.end().status, watch.end().fault) == ("oom", "solver")


def test_the_time_limit_is_for_the_solver_s_own_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(supervise.time, "monotonic", lambda: now[0])
    task = Done(None)
    watch = Watch(task, 10.0, lambda message: None, others=100.0)

    def go_on(phase, seconds):
        task._messages.append({"phase": phase})
        watch.listen()
        now[0] += seconds
        watch.end_late()

    go_on("setup", 50)
    go_on("warmup", 4)
    go_on("judge", 90)
    go_on("steps", 5)
    go_on("overhead", 50)
    assert not task.killed
    go_on("steps", 2)
    assert task.killed
    task.status = int(signal.SIGKILL)
    assert watch.end() == ("timeout", "stopped after the time limit of 10 s in its steps", "solver")


def test_judging_has_a_limit_of_its_own_and_is_not_the_solver_s_fault(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(supervise.time, "monotonic", lambda: now[0])
    task = Done(None, {"phase": "judge"})
    watch = Watch(task, 10.0, lambda message: None, others=100.0)
    watch.listen()
    now[0] = 101.0
    watch.end_late()
    task.status = int(signal.SIGKILL)
    assert watch.end() == ("timeout", "stopped after the time limit of 100 s while it was judged", "problem")


class Fragile(Forks):
    """Forks whose first tasks are killed by somebody."""

    def __init__(self, killed):
        super().__init__()
        self.killed = killed

    def start(self, call, argument):
        task = super().start(call, argument)
        if self.killed:
            self.killed -= 1
            task.kill()
        return task


def test_a_name_is_what_it_is_whoever_is_killed_while_it_is_looked_up():
    """The key of a run depends on it: a run under another key is made again, and counted twice."""
    with Forks() as calm:
        named = Elsewhere(calm)("solver", "bome(lr=0.02)", 0)
    with Fragile(2) as processes:
        assert Elsewhere(processes)("solver", "bome(lr=0.02)", 0) == named
    with Fragile(2) as processes:
        assert Elsewhere(processes).environment["cores"] > 0
    with Fragile(3) as processes, pytest.raises(RequestError, match="was killed, 3 times"):
        _ = Elsewhere(processes).environment
