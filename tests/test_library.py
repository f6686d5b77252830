"""Another library's hypergradient as a solver: a process of its own asks, the oracle answers, and counts what it is."""

import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import bilevelbench as bb
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.library import Served
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.solver import start, stretch
from tests.campaigns.price_of_the_door import implicit

LIBRARY = f"""
from typing import Any

import torch
from torch import Tensor

print("chatter")


{inspect.getsource(implicit).replace("implicit", "hypergradient")}"""
SOLVER = """
from typing import ClassVar

from bilevelbench import Library, solver


@solver("theirs")
class Theirs(Library):
    '''A library's.'''

    file: ClassVar[str] = "library.py"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY, encoding="utf-8")
    (tmp_path / "theirs.py").write_text(SOLVER, encoding="utf-8")
    return tmp_path


def changed(folder, text):
    path = folder / "other.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Served(path)


def oracle():
    problem = bb.build_problem("quadratic", bb.Draw(0))
    return problem, Oracle(problem, 0)


def test_it_goes_as_the_same_method_of_ours(folder):
    """Two steps end where aid_cg's end, with the same products; else it asks what the library asks."""
    theirs = bb.make_solver(f"{folder / 'theirs.py'}:theirs(lr=0.1,lr_inner=0.5,T=3)")
    ours = bb.make_solver("aid_cg(lr=0.1,lr_inner=0.5,T=3,K=10)")
    ends, calls = [], []
    for solver in (theirs, ours):
        problem, o = oracle()
        ends.append(stretch(solver, o, start(solver, problem, o), 0, 2))
        calls.append(o.calls)
    for name in "xy":
        assert torch.allclose(getattr(ends[0], name), getattr(ends[1], name), rtol=1e-9, atol=1e-12)
    assert calls[0] == {"dg_y": 8, "f": 2, "df": 2, "g": 2, "d2g_yy": 20, "d2g_xy": 2}
    assert {kind: calls[1][kind] for kind in ("df", "d2g_yy", "d2g_xy")} == {"df": 2, "d2g_yy": 20, "d2g_xy": 2}


def test_what_goes_wrong_over_there_is_one_sentence(folder):
    problem, o = oracle()
    at = problem.x0, problem.y0
    with pytest.raises(RequestError, match="there is no file"):
        Served(folder / "nobody.py")
    with pytest.raises(RuntimeError, match=r"other.py: ValueError: no$"):
        changed(folder, "def hypergradient(f, g, x, y):\n    raise ValueError('no')").hypergradient(o, *at)
    with pytest.raises(Unsupported, match=r"other.py cannot be run: ModuleNotFoundError: .*nobody_has_this"):
        changed(folder, "import nobody_has_this").hypergradient(o, *at)
    twice = """
        import torch

        def hypergradient(f, g, x, y):
            (slope,) = torch.autograd.grad(f(x, y), x, create_graph=True)
            return torch.autograd.grad(slope.sum(), x)[0]
    """
    with pytest.raises(RuntimeError, match="second derivatives of f, which the oracle does not answer"):
        changed(folder, twice).hypergradient(o, *at)


def test_it_ends_with_whoever_began_it(folder):
    """Closing the pipe ends the process that waits, before anything of the library was loaded."""
    served = Served(folder / "library.py")
    served._to.close()
    assert served._process.wait(timeout=30) in (0, 1)


@pytest.mark.process(sibling="test_it_goes_as_the_same_method_of_ours")
def test_it_is_a_row_of_a_comparison_with_its_counts(folder):
    """A whole run, audited, beside aid_cg: done, with counts, the same end, and made again when the library changes."""
    solvers = ["-s", "aid_cg(lr=0.1,lr_inner=0.5,K=10)", "-s", f"{folder / 'theirs.py'}:theirs(lr=0.1,lr_inner=0.5)"]
    command = [sys.executable, "-m", "bilevelbench", "run", "-p", "quadratic", *solvers, "--steps", "20"]
    command += ["--out", "results"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = bb.load(folder / "results").runs
    assert set(runs["status"]) == {"done"}, runs[["solver", "status", "reason"]]
    last = {}
    for file in Path(folder / "results").glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        row = next(line for line in reversed(lines) if line.get("step") == 20)
        last["theirs" if "theirs" in file.name else "ours"] = row
    assert last["theirs"]["calls"]["d2g_yy"] == last["ours"]["calls"]["d2g_yy"] == 200
    assert last["theirs"]["metrics"]["phi"] == pytest.approx(last["ours"]["metrics"]["phi"], rel=1e-9)
