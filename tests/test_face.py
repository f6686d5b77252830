"""The Python face: what there is, what it refuses, what it sends to processes, and what its results can do."""

import functools
import inspect
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import types
from pathlib import Path

import cloudpickle
import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bilevelbench as bb
from bilevelbench.api.columns import LOOKS, RUNS, TARGETS
from bilevelbench.api.prepare import prepared
from bilevelbench.core.registry import PROBLEMS, SOLVERS, solver
from bilevelbench.core.spec import parse
from bilevelbench.run import child
from bilevelbench.run.fingerprint import digest_of
from bilevelbench.run.names import full, receive
from bilevelbench.run.send import Sender
from bilevelbench.run.worker import execute

from .forked import Forks, forked
from .results_factory import write_run

pytestmark = pytest.mark.xdist_group("face")  # one process makes what the module's tests share


# -- what there is


@pytest.mark.parametrize("name", bb.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert name in dir(bb)
    thing = getattr(bb, name)
    assert isinstance(thing, str) or len(inspect.getdoc(thing)) > 20


def test_importing_loads_nothing_but_python_s_own(tmp_path):
    """So it takes a fraction of a tenth of a second, on whatever machine."""
    code = "import sys; before = set(sys.modules); import bilevelbench; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= {"bilevelbench", *sys.stdlib_module_names}


def test_results_are_read_and_drawn_without_torch(tmp_path):
    """On a laptop that has none."""
    write_run(tmp_path)
    code = """
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Without)
import bilevelbench as bb
results = bb.load(sys.argv[1])
results.leaders(), results.verdict(), results.figure("memory"), results.to_csv(sys.argv[1] + "/csv"), results.to_latex()
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_function_run_is_not_hidden_by_the_sub_package_of_that_name():
    from bilevelbench.run import plan

    assert plan.expand
    assert inspect.isfunction(bb.run)
    assert pickle.loads(cloudpickle.dumps(bb)) is bb


# -- what it refuses


WRONG = [
    (lambda: bb.run(3), "problems=3"),
    (lambda: bb.run("quadratic", 3), "solvers=3"),
    (lambda: bb.run("quadratic", type("S", (), {})), "@bilevelbench.solver"),
    (lambda: bb.run({"a b": "quadratic"}), "'a b'"),
    (lambda: bb.run({"mine": "quadratic"}), "problems"),
    (lambda: bb.run([lambda rng: None]), "lambda"),
    (lambda: bb.run(lambda: None), "lambda"),
    (lambda: bb.run(suite=3), "suite=3"),
    (lambda: bb.run(suite="smok"), "smoke"),
    (lambda: bb.run("quadratic", suite="smoke"), "suite"),
    (lambda: bb.run("quadratic(kappa", "bome"), "quadratic(kappa"),
    (lambda: bb.run("quadratic", "bome", seeds=-1), "seeds=-1"),
    (lambda: bb.run("quadratic", "bome", seeds=[]), "seeds=[]"),
    (lambda: bb.run("quadratic", "bome", seeds=[0.5]), "seeds"),
    (lambda: bb.run("quadratic", "bome", seeds="4-1"), "0-4"),
    (lambda: bb.run("quadratic", "bome", steps=0), "steps=0"),
    (lambda: bb.run("quadratic", "bome", steps=True), "steps=True"),
    (lambda: bb.run("quadratic", "bome", calls="many"), "calls='many'"),
    (lambda: bb.run("quadratic", "bome", seconds=float("nan")), "seconds=nan"),
    (lambda: bb.run("quadratic", "bome", out=3), "out=3"),
    (lambda: bb.run("quadratic", "bome", jobs=0), "jobs=0"),
    (lambda: bb.run("quadratic", "bome", keep="z"), "keep='z'"),
    (lambda: bb.run("quadratic", "bome", keep=3), "keep=3"),
    (lambda: bb.run("quadratic", "bome", timeout="long"), "timeout='long'"),
    (lambda: bb.run("quadratic", "bome", engine="eagre"), "eager"),
    (lambda: bb.run("quadratic", "bome", device=0), "device=0"),
    (lambda: bb.run("quadratic", "bome", dtype=torch.float64), "dtype"),
    (lambda: bb.run("quadratic", "bome", in_process=1), "in_process=1"),
    (lambda: bb.run("quadratic", "bome", in_process=True, engine="functional"), "in_process"),
    (lambda: bb.run("quadratic", "bome", in_process=True, seconds=1), "seconds"),
    (lambda: bb.run("quadratik", "bome", in_process=True), "quadratic"),
    (lambda: bb.run("quadratic", "bome(lrr=1)", in_process=True), "lr"),
    (lambda: bb.run(built(dtype=torch.float32), "bome"), "float64"),
    (lambda: bb.run([built(), built(2.0)], "bome"), "problem"),
    (lambda: bb.load(3), "folders=3"),
    (lambda: bb.load("nowhere"), "nowhere"),
    (lambda: bb.load("."), "no bilevelbench result"),
]


ALIENS = {"object": object(), "complex": 2.5j, "bytes": b"text", "list": [object()], "dict": {1: 2}}


@pytest.mark.parametrize("alien", ALIENS.values(), ids=ALIENS)
@pytest.mark.parametrize("argument", inspect.signature(bb.run).parameters)
def test_run_names_the_argument_of_a_wrong_type(argument, alien, tmp_path):
    good = {"problems": "quadratic(d=2)", "solvers": "bome", "steps": 1, "out": tmp_path, "progress": False}
    with pytest.raises(bb.RequestError, match=argument.removesuffix("s")):
        bb.run(**good | {"in_process": True, argument: alien})
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("alien", ALIENS.values(), ids=ALIENS)
@pytest.mark.parametrize("argument", inspect.signature(bb.solve).parameters)
def test_solve_names_the_argument_of_a_wrong_type(argument, alien):
    with pytest.raises(bb.RequestError, match=argument):
        bb.solve(**{"problem": "quadratic(d=2)", "solver": "bome", "steps": 1, argument: alien})


@pytest.mark.parametrize("alien", [*ALIENS.values(), [], None], ids=[*ALIENS, "empty", "none"])
def test_load_names_the_argument_of_a_wrong_type(alien):
    with pytest.raises(bb.RequestError, match="folders"):
        bb.load(alien)


@pytest.mark.parametrize("call", [bb.make_solver, lambda text: bb.build_problem(text, bb.Draw(0))])
@pytest.mark.parametrize("alien", ALIENS.values(), ids=ALIENS)
def test_what_is_no_text_names_nothing(call, alien):
    with pytest.raises(bb.RequestError, match="no text"):
        call(alien)


def built(scale=1.0, dtype=torch.float64):
    """A problem that is there, and not a function that builds it."""
    one = torch.ones(2, dtype=dtype)
    return bb.Problem(lambda x, y: scale * y @ y, lambda x, y: (y - x) @ (y - x), one, one)


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_one_sentence_of_one_type(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bb.RequestError) as raised:
        call()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("*.jsonl")), "nothing is measured on a wrong request"


# -- definitions: what they are, not where they stand


def function(source, file="cell.py", above=0, name="made"):
    """A function of ``__main__``, as a cell of a notebook makes it."""
    module = types.ModuleType("__main__")
    exec(compile("\n" * above + source, file, "exec"), module.__dict__)
    return getattr(module, name)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 50))
def test_a_digest_is_of_what_is_defined(a, b, above):
    source = """
K = {0}
def helper(x):
    return x + K
def made(rng, d: int = 3):
    return helper(rng) in {{1, 2, 'a'}}
"""
    one, other = function(source.format(a)), function(source.format(b), "another.py", above)
    assert (digest_of(one) == digest_of(other)) == (a == b)


def test_a_digest_sees_data_and_ties_and_no_order_of_sets():
    def holding(*data):
        return lambda rng: data

    weight = torch.arange(3.0)
    assert digest_of(holding(weight)) == digest_of(holding(weight.clone()))
    assert digest_of(holding(weight)) != digest_of(holding(weight + 1))
    assert digest_of(holding(weight, weight)) != digest_of(holding(weight, weight.clone()))
    sets = [set(order) for order in itertools.permutations(["a", "b", "c"])]
    assert len({digest_of(holding(one)) for one in sets}) == 1
    assert digest_of(holding({"a"})) != digest_of(holding({"b"}))


CELL = """
from typing import Literal
from bilevelbench import solver

@solver('made')
class made:
    lr: float = {0}
    way: Literal['a', 'b'] = 'a'

    def step(self, o, s):
        return s
"""


def test_a_class_of_a_notebook_keeps_its_digest_until_it_is_edited():
    digests = [digest_of(function(CELL.format(lr), f"cell{k}")) for k, lr in enumerate((0.1, 0.1, 0.2))]
    SOLVERS.entries.pop("made")
    assert digests[0] == digests[1] != digests[2]


def test_a_class_that_knows_its_line_has_a_digest_without_it():
    def at(line, **content):
        module = types.ModuleType("__main__")
        cls = type("Cell", (), {"__module__": "__main__", "__firstlineno__": line, **content})
        module.Cell = cls
        return cls

    assert digest_of(at(1, K=1)) == digest_of(at(2, K=1)) != digest_of(at(1, K=2))


def described(sent, texts):
    receive(sent)
    return [full(kind, text) for kind, text in texts]


def test_a_definition_is_found_by_its_name_and_names_its_file(tmp_path):
    made = function(CELL.format(0.1))
    with Sender() as sender:
        text = sender.solver(made(way="b"))
        sender.problem(built(), "mine")
        named = forked(described, sender.sent, [("solver", text), ("problem", "mine")])
    SOLVERS.entries.pop("made")
    assert text == "made(way='b')"
    assert [one.spec for one in named] == ["made(lr=0.1,way='b')", "mine"]
    assert [one.file.suffix for one in named] == [".definition"] * 2
    assert not named[0].file.exists(), "it is gone with the command"


def test_types_that_a_cell_s_function_names_are_known_elsewhere():
    """Though nothing but an annotation, a text under this import, speaks of them."""
    made = function(
        "from __future__ import annotations\nfrom typing import Literal\nfrom bilevelbench import Draw, Problem\n"
        "def made(rng: Draw, way: Literal['a', 'b'] = 'a') -> Problem:\n    return None\n"
    )
    with Sender() as sender:
        text = sender.problem(functools.partial(made, way="b"))
        (named,) = forked(described, sender.sent, [("problem", text)])
    assert named.spec == "made(way='b')"


def test_what_comes_with_us_is_sent_by_name_and_is_the_command_line_s():
    from bilevelbench.problems.quadratic import quadratic
    from bilevelbench.solvers.bome import BOME

    with Sender() as sender:
        texts = sender.solver(BOME(lr=0.05)), sender.solver(BOME), sender.problem(quadratic)
        assert not sender.sent
    assert texts == ("bome(lr=0.05)", "bome", "quadratic")


def test_an_object_of_a_loose_file_is_named_by_its_file(tmp_path):
    file = tmp_path / "loose.py"
    file.write_text(CELL.format(0.1).replace("made", "loose"))
    with Sender() as sender:
        text = sender.solver(type(bb.make_solver(str(file)))(way="b"))
        assert not sender.sent
    SOLVERS.entries.pop("loose")
    assert text == f"{file}:loose(way='b')"


def test_a_name_that_is_taken_is_refused():
    with Sender() as sender, pytest.raises(bb.RequestError, match="taken"):
        sender.problem(built(), "quadratic")


# -- runs in this process


def test_in_process_runs_are_untimed_and_leave_nothing_behind(tmp_path):
    before, threads = dict(PROBLEMS.entries), torch.get_num_threads()
    results = bb.run({"mine": built()}, ["bome", "first_order"], steps=3, out=tmp_path, in_process=True, progress=False)
    assert results.runs["status"].tolist() == ["done"] * 2
    assert results.looks["seconds"].isna().all()
    assert results.looks["step"].tolist() == [0, 1, 2, 3] * 2
    assert PROBLEMS.entries == before
    assert torch.get_num_threads() == threads
    again = bb.run({"mine": built()}, "bome", steps=3, out=tmp_path, in_process=True, progress=False)
    assert len(again.runs) == 1, "those that were asked for"
    assert len(list(tmp_path.glob("*.jsonl"))) == 2, "the same digest, made again"


def test_an_interrupt_in_process_is_no_error_of_the_solver_s(tmp_path):
    @solver("interrupted")
    class Interrupted:
        def step(self, o, s):
            signal.raise_signal(signal.SIGINT)
            return s

    before = signal.getsignal(signal.SIGINT)  # ignored, where tests run in the background
    with pytest.raises(KeyboardInterrupt):
        bb.run({"mine": built()}, Interrupted(), steps=3, out=tmp_path, in_process=True, progress=False)
    SOLVERS.entries.pop("interrupted")
    assert not list(tmp_path.glob("*.jsonl"))
    assert signal.getsignal(signal.SIGINT) is before


# -- runs in processes of their own, from a script


EVADER = """
from bilevelbench import Point, solver
KEPT = {}

@solver("evader")
class Evader:
    def step(self, o, s):
        if "y" not in KEPT:
            y = s.y
            for _ in range(20):
                y = y - 0.1 * o.dg_y(s.x, y)
            KEPT["y"] = y
        return Point(s.x - 0.01 * o.df_x(s.x, s.y), KEPT["y"])
"""


def test_an_object_that_evades_the_counters_is_found_like_a_file(tmp_path, monkeypatch):
    """What it did in the warm-up is not there when a window of its run is made again elsewhere."""
    monkeypatch.setattr(child, "processes", Forks)
    made = function(EVADER, name="Evader")
    results = bb.run("quadratic(d=2)", made(), steps=40, out=tmp_path, progress=False)
    SOLVERS.entries.pop("evader")
    assert results.runs[["status", "fault"]].to_numpy().tolist() == [["error", "solver"]]
    assert "made again from the same state" in results.runs["reason"][0]
    assert not results.troubles


SCRIPT = """
import sys
import torch
import bilevelbench as bb
from bilevelbench.api.prepare import prepared
from bilevelbench.solvers.bome import BOME

PULL = {pull}

@bb.solver("mine")
class Mine:
    '''Ours.'''
    lr: float = 1e-2

    def step(self, o, s):
        return bb.Point(s.x - self.lr * o.df_x(s.x, s.y), s.y - 0.1 * o.dg_y(s.x, s.y))

def pulled(rng: bb.Draw, d: int = 3):
    a = rng.put(rng.normal(d))
    flags = {{"strongly_convex", "convex"}}
    return bb.Problem(lambda x, y: (y - PULL) @ (y - PULL), lambda x, y: (y - a * x) @ (y - a * x), a, a, flags=flags)

if __name__ == "__main__":
    torch.ones(300, 300) @ torch.ones(300, 300)  # this process has run operations
    asked = ["quadratic(kappa=10)", pulled], [BOME(lr=0.01), Mine(lr=0.1)]
    if sys.argv[1] == "run":
        results = bb.run(*asked, steps=4, out="results", keep="x,y", progress=False)
        assert all(len(results.point(run)["y"]) == n for run, n in results.runs[["run", "n_y"]].itertuples(index=False))
        print(results.runs[["problem", "solver", "status", "reason"]].to_json(orient="records"))
    with prepared(*asked, steps=4, out="results") as comparison:
        print(len(comparison.todo))
    with prepared("quadratic(kappa=10)", "bome(lr=0.01)", steps=4, out="results") as comparison:
        print(len(comparison.todo))
"""


def script(folder, what, pull="2.0", seed="1"):
    (folder / "study.py").write_text(SCRIPT.format(pull=pull))
    done = subprocess.run(
        [sys.executable, "study.py", what], cwd=folder, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.process(sibling="test_the_lines_as_a_script")
def test_a_script_s_objects_run_in_processes_and_an_edit_is_another_run(tmp_path):
    runs, todo, asked_by_text = script(tmp_path, "run")
    assert [run["status"] for run in runs] == ["done"] * 4, runs
    assert sorted({run["problem"] for run in runs}) == ["pulled", "quadratic(kappa=10)"]
    assert sorted({run["solver"] for run in runs}) == ["bome", "mine"]
    assert (todo, asked_by_text) == (0, 0), "an object and its text are one run"
    assert script(tmp_path, "ask", seed="2")[0] == 0, "another process, the same definitions"
    assert script(tmp_path, "ask", pull="3.0")[0] == 2, "those of the problem that was edited"


# -- results


@pytest.fixture
def results(tmp_path):
    for name, seed in itertools.product(("bome", "aid_cg"), range(2)):
        write_run(tmp_path / "results", "quadratic(kappa=10)", name, seed, extra={"f": 2.0}, memory={"peak_bytes": 900})
    write_run(tmp_path / "results", "chain", "bome", status="error", reason="it broke")
    return bb.load(tmp_path / "results")


def test_tables_have_the_columns_that_are_documented(results):
    assert list(results.runs) == list(RUNS)
    assert list(results.looks)[: len(LOOKS)] == list(LOOKS)
    assert {"phi_gap", "f"} <= set(results.looks)
    assert list(results.targets) == list(TARGETS)
    for table in ("runs", "looks", "targets"):
        said = inspect.getdoc(getattr(bb.Results, table))
        assert all(f"\n{name}\n    " in said for name in getattr(results, table)), table
    assert len(results.runs) == 5
    assert results.leaders()["solver"].tolist() == ["aid_cg", "bome"]
    assert "quadratic" in results.verdict() or "runs" in results.verdict()
    assert "5 runs, 2 problems, 2 solvers, 2 seeds" in repr(results)
    assert "bome" in results._repr_html_()
    results.runs.loc[:, "status"] = "changed"
    assert results.leaders()["failed"].sum() == 1, "a table is the caller's own"


def test_exports_hold_what_the_tables_hold(results, tmp_path):
    names = ["runs", "looks", "targets", "leaders"]
    assert [path.stem for path in results.to_csv(tmp_path / "csv")] == names
    assert [path.stem for path in results.to_parquet(tmp_path / "parquet")] == names
    for name, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        again = read(tmp_path / name / f"targets.{name}")
        assert list(again) == list(TARGETS)
        pd.testing.assert_series_equal(again["calls"], results.targets["calls"], check_dtype=False)
    text = results.to_latex()
    assert text.startswith(r"\begin{tabular}")
    assert r"aid\_cg" in text
    with pytest.raises(bb.RequestError, match="out"):
        results.to_csv("/dev/null/x")


@pytest.mark.parametrize("x", [None, "calls", "seconds", "steps", "grads"])
def test_figures_of_convergence(results, x):
    figure = results.figure("convergence", "quadratic", y="phi_gap", x=x)
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert len(labels) == (1 if x else 2)
    assert x is None or x[:4] in labels[0] or x == "grads"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_leaves_other_people_s_alone(results, tmp_path):
    own = plt.figure()
    before = dict(mpl.rcParams), mpl.get_backend()
    results.figure("memory")
    made = results.report(tmp_path / "mine")
    assert (dict(mpl.rcParams), mpl.get_backend()) == before
    assert plt.get_fignums() == [own.number]
    plt.close(own)
    assert made.path.read_text().startswith("<!doctype html>")


WRONG_FIGURES = [
    ({"kind": "convergense"}, "convergence"), ({"problem": "quadratik"}, "quadratic"), ({}, "problem=None"),
    ({"problem": "quadratic", "y": "phi_gapp"}, "phi_gap"), ({"problem": "quadratic", "x": "call"}, "calls"),
    ({"kind": "trajectory", "problem": "chain"}, "iterates"), ({"problem": "quadratic", "width": 3}, "width=3"),
    ({"problem": "quadratic", "x": ["calls"]}, "x="),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "words"), WRONG_FIGURES, ids=[words for _, words in WRONG_FIGURES])
def test_a_figure_that_cannot_be_had_is_one_sentence(results, asked, words):
    with pytest.raises(bb.RequestError, match=words):
        results.figure(**asked)


def test_a_spec_with_the_knobs_of_an_object_reads_as_it_was_written():
    from bilevelbench.solvers.bome import BOME

    with Sender() as sender:
        asked = parse(sender.solver(BOME(lr=0.5, phi="gap", lr_y=None)))
    assert asked.arguments == {"lr": 0.5, "phi": "gap"}
    assert Path(asked.file) == Path()


def test_results_of_a_plan_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    """Others make its runs, later."""
    monkeypatch.setattr(child, "processes", Forks)
    results = bb.run(["coreset"], ["bome"], steps=3, out=tmp_path, on="folder", progress=False)
    assert list(tmp_path.glob("*.plan"))
    with pytest.raises(bb.RequestError, match="no bilevelbench result"):
        _ = results.runs
    assert "no bilevelbench result" in repr(results)
    assert "no bilevelbench result" in results._repr_html_()
    with prepared(["coreset"], ["bome"], steps=3, out=tmp_path, on="folder") as comparison:
        execute(*comparison.jobs)
    assert list(results.runs["status"]) == ["done"]
