"""A core is held by one run at a time, on the whole host, and let go of however its holder ends."""

import os
import signal
import subprocess
import sys

import pytest

from bilevelbench.measure import cores
from bilevelbench.measure.clock import work_seconds
from bilevelbench.measure.cores import Cores, bind
from tests.forked import forked

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds processes to cores")

HOLD = "import sys; from bilevelbench.measure.cores import Cores; print(Cores().take(1), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """A host of three cores, of which the second is the idlest."""
    monkeypatch.setenv(cores.FOLDER, str(tmp_path / "cores"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setattr(cores.psutil, "cpu_percent", lambda percpu: [50.0, 1.0, 2.0])


def test_a_core_is_held_once_and_idle_ones_first():
    with Cores() as one, Cores() as two:
        assert one.take(1) == [1]
        assert two.take(2) == [0, 2]
        assert one.take(1) == two.take(1) == []
        two.release([2])
        assert one.take(1) == [2]
    with Cores() as three:
        assert three.take(3) == [0, 1, 2]


def test_too_few_are_none_and_keep_nobody_out():
    with Cores() as one, Cores() as two:
        assert one.take(4) == []
        assert two.take(3) == [0, 1, 2]


def test_a_holder_that_is_killed_lets_go(monkeypatch):
    monkeypatch.undo()
    if len(os.sched_getaffinity(0)) < 1:
        pytest.skip("no core may be used")
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    (held,) = eval(holder.stdout.readline())
    with Cores() as mine:
        assert held not in mine.take(len(os.sched_getaffinity(0)) - 1)
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    with Cores() as mine:
        assert held in mine.take(len(os.sched_getaffinity(0)))


def test_a_folder_that_cannot_be_written_holds_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cores.FOLDER, str(tmp_path / "file"))
    with Cores() as mine:
        assert mine.take(1) == []


def test_a_run_is_bound_to_the_cores_that_it_holds(monkeypatch):
    monkeypatch.undo()
    some = sorted(os.sched_getaffinity(0))[-1:]
    assert forked(lambda: (bind(some), sorted(os.sched_getaffinity(0)))[1]) == some
    before = os.sched_getaffinity(0)
    bind(None)
    assert os.sched_getaffinity(0) == before


def test_known_work_takes_some_time():
    assert 1e-4 < work_seconds() < 1.0
