"""The gate, on every solver that comes with the package, against the baseline beside this file.

    pytest tests/perf                                              the gate
    bilevelbench gate --baseline tests/perf/baseline.json --update     a new baseline, to be reviewed like code
    pytest tests/perf --benchmark-json new.json; bilevelbench report --benchmarks new.json -o reports/gate
    pytest tests/perf --benchmark-autosave; pytest tests/perf --benchmark-compare     seconds, on a quiet machine

The last line is for people with a quiet machine: no layer here judges seconds. Layer (a), oracle calls, is in
``test_calls``.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bilevelbench.contract import gate as gates
from bilevelbench.contract.gate import LAYERS, gate
from bilevelbench.core import derive
from bilevelbench.core.errors import RequestError
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure.counts import counts
from bilevelbench.measure.ratio import paired
from tests.perf.frozen_oracle import FrozenOracle
from tests.perf.test_calls import NAMES

BASELINE = Path(__file__).with_name("baseline.json")
ORACLE_LIMIT = 1.15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "calls"])
def test_gate(name, layer, benchmark):
    gate(name, layer, BASELINE, benchmark)


def over_frozen(kind):
    """The live oracle over the frozen one, for one kind of question; "at": a gradient and nine products at a point."""
    problem = gates.problem()
    x, y, v = problem.x0, problem.y0, torch.ones_like(problem.y0)
    arguments = (x, y, v) if "2" in kind else (x, y)
    live, frozen = Oracle(problem), FrozenOracle(problem)

    def ask(oracle):
        for _ in range(3 if kind == "at" else 25):
            asked = getattr(oracle, kind)(*arguments)
            if kind == "at":
                asked.dg_y()
                for _ in range(9):
                    asked.d2g_yy(v)

    return paired(lambda: ask(live), lambda: ask(frozen))


@pytest.mark.parametrize("kind", ["f", "df", "dg", "dg_x", "dg_y", "d2g", "d2g_yy", "at"])
def test_the_oracle_takes_no_longer_than_it_did(kind, benchmark):
    ratio = over_frozen(kind)
    benchmark.extra_info.update(solver="(the oracle)", layer=f"oracle {kind}", found=gates.shown(ratio),
                                expected=f"<= {ORACLE_LIMIT}", passed=ratio.low <= ORACLE_LIMIT,
                                interval=ratio, limit=ORACLE_LIMIT)  # fmt: skip
    benchmark.pedantic(lambda: None, rounds=1)
    assert ratio.low <= ORACLE_LIMIT, gates.shown(ratio)


# -- what the gate would miss if it were broken


def slowed(name, **methods):
    """The solver with other methods."""
    solver = make_solver(name)
    made = object.__new__(type("Slowed", (type(solver),), methods))
    made.__dict__.update(vars(solver))
    return made


def hidden(self, o, s):
    """Half as much work again, behind the oracle's back."""
    new = type(self).__mro__[1].step(self, o, s)
    derive.grad_y(o._problem.g, s.x, s.y)
    return new


def test_hidden_work_is_found_by_its_operations():
    found = gates.verdict("bome", "operations", gates.read(BASELINE), slowed("bome", step=hidden))
    assert not found.passed
    assert gates.verdict("bome", "calls", gates.read(BASELINE), slowed("bome", step=hidden)).passed


def test_a_solver_through_all_layers_is_measured_once(monkeypatch):
    """Each room is passed once, and only by the layer that needs it; a changed solver of the same name anew."""
    made = []

    def watched(work):
        def watch(*arguments):
            made.append(work.__name__)
            return work(*arguments)

        return watch

    for work in (gates.asked, gates.counts, gates.peak, gates.step_over_floor):
        monkeypatch.setattr(gates, work.__name__, watched(work))
    baseline, rooms = gates.read(BASELINE), ["asked", "counts", "peak", "step_over_floor"]
    for solver in (None, None, slowed("bome", step=hidden)):  # the second is no memory of the first
        made.clear()
        found = [gates.verdict("bome", layer, baseline, solver) for layer in LAYERS]
        assert made == rooms
        assert found[1].passed == (solver is None)
    made.clear()
    with pytest.raises(RequestError, match="no layer 'seconds'; choose from calls"):
        gates.verdict("bome", "seconds", baseline)
    with pytest.raises(RequestError, match="add it with"):
        gates.verdict("bome", "floor", {**baseline, "solvers": {}})
    assert not made, "a wrong request is refused before anything is measured"


def test_python_overhead_is_found_by_its_calls():
    def step(self, o, s):
        for number in range(7):
            abs(number)
        return type(self).__mro__[1].step(self, o, s)

    before, after = (counts(gates.problem(), solver, 3) for solver in (make_solver("bome"), slowed("bome", step=step)))
    assert after["python_calls"] - before["python_calls"] >= 3 * 8
    assert after["operations"] == before["operations"]


def test_more_bytes_are_found():
    def step(self, o, s):
        kept = [s.y + k for k in range(20)]
        new = type(self).__mro__[1].step(self, o, s)
        del kept
        return new

    assert not gates.verdict("bome", "bytes", gates.read(BASELINE), slowed("bome", step=step)).passed


def test_under_an_unknown_version_the_solver_s_own_counts_are_judged(monkeypatch):
    monkeypatch.setattr(gates, "VERSION", "torch 99, python 99")
    baseline = gates.read(BASELINE)
    for layer in ("operations", "bytes"):
        found = gates.verdict("bome", layer, baseline)
        assert found.passed
        assert "no counts for torch 99" in found.remark
    assert not gates.verdict("bome", "operations", baseline, slowed("bome", step=hidden)).passed


def test_a_solver_without_a_baseline_fails_with_the_command(tmp_path):
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps({"schema": 1, "solvers": {}, "versions": {}}))
    with pytest.raises(RequestError, match="add it with `bilevelbench gate bome --update`"):
        gate("bome", "operations", file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no baseline file"),
        ("not json", "is not JSON"),
        ("[]", "is no baseline of the gate"),
        ('{"schema": 7, "solvers": {}, "versions": {}}', "has schema 7, this version reads 1"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "baseline.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RequestError, match=words):
        gates.read(file)


def test_in_somebody_else_s_suite_the_gate_is_three_lines(tmp_path):
    """A solver file of theirs, a baseline made by the command, the lines of the docstring, and a regression."""
    (tmp_path / "mine.py").write_text(
        "from bilevelbench import Point, solver\n\n\n"
        "@solver('mine')\nclass Mine:\n    lr: float = 0.1\n    calls = 'dg_y'\n\n"
        "    def step(self, o, s):\n        return Point(s.x, s.y - self.lr * o.dg_y(s.x, s.y))\n"
    )
    lines = gates.__doc__.split("pytest-benchmark:\n\n")[1].split("\n\n`")[0]
    (tmp_path / "test_mine.py").write_text(
        "import pytest\nfrom bilevelbench.contract.gate import LAYERS, gate\n\n"
        + "\n".join(line.removeprefix("    ") for line in lines.split("\n")).replace("my_solver.py", "mine.py")
    )

    def run(*command):
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )

    assert run("bilevelbench", "gate", "mine.py", "--baseline", "gate.json", "--update").returncode == 0
    done = run("pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace("s.y - self.lr * o", "s.y - (0 * s.y).sum() - self.lr * o"))
    gone = run("bilevelbench", "gate", "mine.py", "--baseline", "gate.json", "--markdown", "table.md")
    assert gone.returncode == 1, gone.stdout + gone.stderr
    assert "FAILED mine.py operations" in gone.stdout
    assert "**failed** | mine.py | operations" in (tmp_path / "table.md").read_text()
