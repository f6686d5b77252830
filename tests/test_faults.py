"""Runs that fail: each ends in its own row with its own status, and no other run is touched."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bilevelbench.store.journal import read, read_folder
from bilevelbench.store.schema import CUT

SOLVERS = Path(__file__).with_name("faulty_solvers.py")
EXPECTED = {
    "honest": "done",
    "raises": "error",
    "turns_nan": "diverged",
    "hangs": "timeout",
    "crashes": "error",
    "hogs": "oom",
    "is_killed": "oom",
    "grows": "error",
    "keeps_graph": "error",
}


def command(*arguments):
    return [sys.executable, "-m", "bilevelbench", "run", "-p", "quadratic(d=3)", *arguments]


def solvers(*names):
    return [word for name in names for word in ("-s", f"{SOLVERS}:{name}")]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults")
    done = subprocess.run(
        command(*solvers(*EXPECTED), "--steps", "9", "--timeout", "20", "--out", str(out)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    records = {record.header["solver"]["given"].rpartition(":")[2]: record for record in read_folder(out)}
    return done, records, out


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fault_has_its_status_and_keeps_its_rows(faults, name):
    _, records, _ = faults
    record = records[name]
    assert record.status == EXPECTED[name]
    assert not record.troubles
    looks = [row["step"] for row in record.rows]
    assert looks[:3] == [0, 1, 2], "the looks before the fault are kept"
    assert all(row["metrics"]["phi"] is not None for row in record.rows[:3])
    if EXPECTED[name] != "done":
        assert record.rows[-1]["reason"]


def test_exit_code_tells_that_runs_failed(faults):
    done, _, _ = faults
    assert done.returncode == 1, done.stderr


def test_errors_keep_their_traceback(faults):
    _, records, _ = faults
    last = records["raises"].rows[-1]
    assert "the solver's own <mistake>" in last["reason"]
    assert "in fault" in last["traceback"]


def test_reasons_name_what_happened(faults):
    _, records, _ = faults
    reasons = {name: record.rows[-1].get("reason", "") for name, record in records.items()}
    assert "signal 11" in reasons["crashes"]
    assert "20 s" in reasons["hangs"]
    assert "x became float64[6]" in reasons["grows"]
    assert "graph" in reasons["keeps_graph"]


def test_repeating_the_command_makes_no_finished_run_again(faults):
    _, _, out = faults
    before = {path: path.read_bytes() for path in out.glob("*.jsonl")}
    again = subprocess.run(
        command(*solvers(*EXPECTED), "--steps", "9", "--timeout", "20", "--out", str(out)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert again.returncode == 1
    assert before == {path: path.read_bytes() for path in out.glob("*.jsonl")}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_is_resumed_by_repeating_it(tmp_path, how):
    arguments = command(*solvers("honest", "slow"), "--steps", "30", "--seeds", "0-1", "--out", str(tmp_path))
    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit it ignored
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not _rows(tmp_path, "slow"):  # honest seed 0 is then finished
        assert time.monotonic() < deadline, "the slow run did not begin in ten minutes"
        time.sleep(0.05)
    os.kill(process.pid, how)
    process.communicate(timeout=600)
    finished = {p: p.read_bytes() for p in tmp_path.glob("*.jsonl") if read(p).status == "done"}
    cut = [p for p in tmp_path.glob("*.jsonl") if read(p).status == CUT]
    assert finished
    assert cut
    time.sleep(1.2)  # orphaned workers notice within half a second that their parent is gone
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0, again.stderr
    records = read_folder(tmp_path)
    assert [record.status for record in records] == ["done"] * 4
    assert all(path.read_bytes() == content for path, content in finished.items())
    for record in records:
        assert [row["step"] for row in record.rows] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 29, 30]


def _rows(folder, name):
    return [json.loads(line) for path in folder.glob(f"*{name}*.jsonl") for line in path.read_text().splitlines()[2:]]
