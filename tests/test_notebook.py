"""A notebook of fifteen lines: two modules, a loss each, trained; the same lines as a script, and as a command."""

import base64
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bilevelbench as bb
from bilevelbench.run import child
from bilevelbench.run.server import NEEDED
from tests.forked import Forks

MODULES = """\
import torch, bilevelbench as bb
from torch.nn.functional import cross_entropy
torch.manual_seed(0)
inputs, labels, rows = bb.Draw(0).normal(80, 5).float(), torch.arange(80) % 3, torch.arange(40)
inputs[range(80), labels] += 1
weights, net = torch.nn.Embedding(40, 1), torch.nn.Linear(5, 3)
upper_loss = lambda weights, net, a, t: cross_entropy(net(a), t)
lower_loss = lambda weights, net, a, t, k: weights(k)[:, 0].sigmoid() * cross_entropy(net(a), t, reduction="none")
data = [(inputs[40:], labels[40:])], [(inputs[:40], labels[:40], rows)]
losses = dict(upper_loss=upper_loss, lower_loss=lower_loss, decay=1e-2, flags={"strongly_convex"})
problem = bb.from_modules(bb.Draw(0), weights, net, *data, **losses)
"""
CELLS = [
    MODULES,
    """\
solution = bb.solve(problem, "bome(lr=0.5)", steps=60, checkpoint="run.pt")
weights.load_state_dict(solution.state_dict("upper")), net.load_state_dict(solution.state_dict("lower"))
""",
    """\
results = bb.run({"cleaning": problem}, ["bome(lr=0.5)", "aid_cg"], steps=20, out="results")
results.figure("convergence", y="phi", x="calls")
""",
]
FILE = f"""\
{MODULES}
@bb.problem("cleaning")
def cleaning(rng: bb.Draw):
    return problem
"""


def test_it_has_fifteen_lines():
    assert sum(len(cell.splitlines()) for cell in CELLS) <= 15


def check(net, problem, solution, results, folder):
    """What the lines have come to."""
    flat = [parameter.detach().reshape(-1).double() for parameter in net.parameters()]
    before, after = solution.history["f"].iloc[[0, -1]]
    assert after < 0.9 * before, "it has been trained"
    own = [float(abs(part).max()) for part in flat]
    assert max(own) == pytest.approx(float(abs(solution.y).max()), rel=1e-6), "and the module has what was trained"
    half = bb.solve(problem, "bome(lr=0.5)", steps=31, checkpoint=folder / "half.pt")
    assert half.step == 31
    resumed = bb.solve(problem, "bome(lr=0.5)", steps=60, checkpoint=folder / "half.pt")
    assert resumed.x.tolist() == solution.x.tolist(), "to the bit"
    assert resumed.y.tolist() == solution.y.tolist(), "to the bit"
    assert results.runs["status"].tolist() == ["done", "done"]


def test_the_lines_as_a_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "processes", Forks)
    names = {"__name__": "__main__"}
    for needed in NEEDED:  # once, and not in every fork
        import_module(needed)
    for cell in CELLS:
        exec(cell, names)
    check(names["net"], names["problem"], names["solution"], names["results"], tmp_path)


CHECK = """\
import pathlib
from tests.test_notebook import check
check(net, problem, solution, results, pathlib.Path("."))
print(results.looks.to_json(orient="records"))
"""


@pytest.mark.docs(sibling="test_the_lines_as_a_script")
def test_the_lines_as_a_notebook_and_their_rows_as_the_command_line_s(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    cells = [nbformat.v4.new_code_cell(cell) for cell in [*CELLS, CHECK]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    *_, figure, said = notebook.cells
    shown = [output.data for output in figure.outputs if "data" in output]
    assert any("<progress" in data.get("text/html", "") and "2 of 2 runs" in data["text/plain"] for data in shown)
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert len(pictures) == 1, "once, whatever backend there is"
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert said.outputs, "what is held against the lines was printed"
    assert not [output for cell in notebook.cells for output in cell.outputs if output.get("name") == "stderr"]
    (tmp_path / "cleaning.py").write_text(FILE)
    command = ["run", "-p", "cleaning.py", "-s", "bome(lr=0.5)", "-s", "aid_cg", "--steps", "20", "--out", "command"]
    done = subprocess.run(
        [sys.executable, "-m", "bilevelbench", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    here, there = bb.load(tmp_path / "results").looks, bb.load(tmp_path / "command").looks
    assert here["step"].tolist() == there["step"].tolist()
    assert here["total_calls"].tolist() == there["total_calls"].tolist()
    for metric in ("phi", "gap", "grad_phi", "f"):
        assert here[metric].tolist() == pytest.approx(there[metric].tolist(), rel=1e-6, abs=1e-9), metric
