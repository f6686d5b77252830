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
from tests.fault_matrix import EXPECTED as MATRIX
from tests.fault_matrix import written

pytestmark = pytest.mark.xdist_group("faults")  # one process makes what the module's tests share
SOLVERS = Path(__file__).with_name("faulty_solvers.py")
EXPECTED = {  # the faults of a solver that steps; see faulty_solvers.py
    "honest": "done",
    "raises": "error",
    "turns_nan": "diverged",
    "hangs": "timeout",
    "crashes": "error",
    "hogs": "oom",
    "is_killed": "error",
    "grows": "error",
    "keeps_graph": "error",
}
MARKER = "BILEVELBENCH_TEST_OF_FAULTS"
LIMITS = ("--timeout", "6", "--patience", "25")


def bench(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "bilevelbench", *map(str, arguments)],
        capture_output=True, text=True, timeout=900, check=False, **options,
    )  # fmt: skip


def solvers(*names):
    return [word for name in names for word in ("-s", f"{SOLVERS}:{name}")]


def command(*arguments):
    return [sys.executable, "-m", "bilevelbench", "run", "-p", "quadratic(d=3)", *arguments]


def lines(texts):
    return "[" + ", ".join(f"{str(text)!r}" for text in texts) + "]"


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """One command with all faults, of solvers and of problems, and with neighbours that have none."""
    folder, out = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("faults")
    files = written(folder)
    of = {kind: [files[name] for name, (own, *_) in MATRIX.items() if own == kind] for kind in ("solver", "problem")}
    steps = [f"{SOLVERS}:{name}" for name in EXPECTED]
    suite = folder / "faults.toml"
    blocks = [
        (["quadratic(d=3)"], [*steps, *of["solver"], "first_order"], 9),
        ([*of["problem"], "coreset"], ["first_order(lr=0.1)"], 40),
    ]
    suite.write_text("".join(
        f"[[block]]\nproblems = {lines(problems)}\nsolvers = {lines(tried)}\nsteps = {count}\n"
        for problems, tried, count in blocks
    ))  # fmt: skip
    done = bench("run", suite, *LIMITS, "--out", out, env=os.environ | {MARKER: "1"})
    end = time.monotonic() + 60
    while (left := marked()) and time.monotonic() < end:  # what was killed takes a moment to be gone
        time.sleep(0.1)
    records = {}
    for record in read_folder(out):
        given = record.header["problem"]["given"], record.header["solver"]["given"]
        loose = [Path(text).name.replace(".py:", " ").removesuffix(".py") for text in given if ".py" in text]
        records[loose[0] if loose else given[0]] = record
    return done, records, out, left, (suite, out)


def marked():
    """The processes that were started with the marker: the command's, and its children's."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARKER}=1".encode() in file.read_bytes():
                found.append(file.parent.name)
        except OSError:  # gone, or somebody else's
            continue
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fault_of_a_step_has_its_status_and_keeps_its_rows(faults, name):
    record = faults[1][f"faulty_solvers {name}"]
    assert record.status == EXPECTED[name], record.rows[-1]
    assert record.troubles == []
    looks = [row["step"] for row in record.rows]
    assert looks[:3] == [0, 1, 2], "the looks before the fault are kept"
    assert all(row["metrics"]["phi"] is not None for row in record.rows[:3])
    if EXPECTED[name] != "done":
        assert record.rows[-1]["reason"]
        assert record.fault == "solver"


@pytest.mark.parametrize("name", MATRIX)
def test_each_fault_is_an_honest_row(faults, name):
    """Its status, whose fault it was, and what happened."""
    kind, place, status, words = MATRIX[name]
    record = faults[1][name]
    assert (record.status, record.fault) == (status, kind), record.rows[-1]
    assert words in record.rows[-1]["reason"]
    assert record.troubles == []
    if place in ("step", "metrics", "ask"):
        assert record.rows[0]["step"] == 0
        assert record.rows[0]["metrics"]["phi"] is not None


def test_neighbours_are_intact_and_the_exit_code_tells_that_runs_failed(faults):
    done, records, *_ = faults
    assert done.returncode == 1, done.stdout + done.stderr
    assert (records["quadratic(d=3)"].status, records["coreset"].status) == ("done", "done")
    assert len(records) == len(MATRIX) + len(EXPECTED) + 2
    assert "Traceback" not in done.stdout


def test_no_process_is_left_behind(faults):
    """Nor any file beside the records and the report."""
    _, _, out, left, _ = faults
    assert left == []
    assert {path.suffix for path in out.iterdir() if path.is_file()} == {".jsonl"}


def test_errors_keep_their_traceback(faults):
    last = faults[1]["faulty_solvers raises"].rows[-1]
    assert "the solver's own <mistake>" in last["reason"]
    assert "in fault" in last["traceback"]


def test_reasons_name_what_happened(faults):
    reasons = {name: record.rows[-1].get("reason", "") for name, record in faults[1].items()}
    assert "signal 11 in its steps" in reasons["faulty_solvers crashes"]
    assert "6 s in its steps" in reasons["faulty_solvers hangs"]
    assert "25 s while the problem was built" in reasons["problem_build_hangs"]
    assert "x became float64[6]" in reasons["faulty_solvers grows"]
    assert "graph" in reasons["faulty_solvers keeps_graph"]
    assert "os.kill" in reasons["faulty_solvers is_killed"]


def test_repeating_the_command_makes_no_finished_run_again(faults):
    *_, (suite, out) = faults
    before = {path: path.read_bytes() for path in out.glob("*.jsonl")}
    again = bench("run", suite, *LIMITS, "--out", out)
    assert again.returncode == 1, again.stderr
    assert before == {path: path.read_bytes() for path in out.glob("*.jsonl")}


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        pytest.param(
            signal.SIGINT, marks=pytest.mark.process(sibling="test_an_interrupted_command_is_resumed_by_repeating_it")
        ),
    ],
)
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
    cut = [p for p in tmp_path.glob("*.part") if read(p).status == CUT]
    assert finished
    assert cut
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0, again.stderr
    records = read_folder(tmp_path)
    assert [record.status for record in records] == ["done"] * 4
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part" or path.name.startswith(".")]
    assert all(path.read_bytes() == content for path, content in finished.items())
    for record in records:
        assert [row["step"] for row in record.rows] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 29, 30]


def _rows(folder, name):
    return [json.loads(line) for path in folder.glob(f"*{name}*.part") for line in path.read_text().splitlines()[2:]]
