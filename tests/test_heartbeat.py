"""Whether a maker is gone: at once where its process is known to be no more, otherwise by a counter that stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bilevelbench.store import heartbeat
from bilevelbench.store.heartbeat import Heartbeat, _ended, _identity, _started, sweep

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="who started when is read from /proc")


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def heart(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    made = Heartbeat(tmp_path, beat=1000.0, patience=3000.0)
    made.clock = clock
    yield made
    made.close()


def test_a_heartbeat_says_who_it_is_in_a_file_of_one_length(tmp_path, heart):
    file = tmp_path / f".alive-{heart.token}"
    first = file.read_bytes()
    assert json.loads(first)["pid"] == os.getpid()
    assert json.loads(first)["counter"] == "000000000000"
    heart.beats = 12345
    heart._write()
    assert json.loads(file.read_bytes())["counter"] == "000000012345"
    assert len(file.read_bytes()) == len(first)


def test_it_beats_by_itself_and_takes_its_file_away(tmp_path):
    heart = Heartbeat(tmp_path, beat=0.01)
    while heart.beats < 2:
        heart._over.wait(0.01)
    heart.close()
    assert not heart._thread.is_alive()
    assert not list(tmp_path.iterdir())
    assert (heartbeat.BEAT, heartbeat.PATIENCE) == (5.0, 60.0)
    assert (heart.beat, heart.patience) == (0.01, 60.0)


def test_another_is_gone_when_its_counter_stood_still_while_clock_and_own_counter_went_on(tmp_path, heart):
    other = tmp_path / ".alive-other"
    other.write_text("1")
    assert not heart.gone("other")  # seen for the first time
    for now, beats, expected in [(2999.0, 2, False), (3000.0, 1, False), (3000.0, 2, True), (9000.0, 9, True)]:
        heart.clock.now, heart.beats = 100.0 + now, beats
        assert heart.gone("other") is expected
    other.write_text("2")
    assert not heart.gone("other")  # it is alive again, and its time begins anew
    heart.clock.now += 2999.0
    heart.beats += 2
    assert not heart.gone("other")
    heart.clock.now += 1.0
    assert heart.gone("other")


def test_one_that_has_no_file_is_waited_for_too(heart):
    assert not heart.gone("nobody")
    heart.clock.now, heart.beats = 3100.0, 2
    assert heart.gone("nobody")


def test_a_maker_is_never_gone_for_itself(heart):
    heart.clock.now, heart.beats = 1e9, 10**6
    assert not heart.gone(heart.token)


@LINUX
def test_a_process_that_is_no_more_is_told_at_once(tmp_path, heart):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = _identity(child.pid)
    assert identity["started"]
    assert int(identity["started"]) > 0
    (tmp_path / ".alive-child").write_text(json.dumps(identity))
    assert not _ended(json.dumps(identity).encode())
    assert not heart.gone("child")
    assert sweep(tmp_path) == set()
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _started(child.pid) == ""  # what is left of it waits for its parent
    assert heart.gone("child")
    child.wait()
    assert heart.gone("child")
    for other in ({"boot": "another"}, {"namespace": "another"}, {"pid": str(child.pid)}, {"boot": ""}):
        assert not _ended(json.dumps(identity | other).encode())
    (tmp_path / ".alive-foreign").write_text("{}")
    assert sweep(tmp_path) == {"child"}
    assert not (tmp_path / ".alive-child").exists()
    assert (tmp_path / ".alive-foreign").exists()


@LINUX
def test_who_started_when_is_the_22nd_field_whatever_the_name():
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert _started(os.getpid()) == fields[19]
    assert _started(2**22 + 1) == ""


def test_where_the_system_does_not_tell_nobody_has_ended(monkeypatch):
    monkeypatch.setattr(heartbeat.os, "readlink", lambda path: (_ for _ in ()).throw(OSError()))
    assert _identity(1)["boot"] == _identity(1)["namespace"] == ""
    assert not _ended(json.dumps(_identity(2**22 + 1)).encode())
