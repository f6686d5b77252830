"""What newcomers asked for and got a traceback, a wrong remedy or silence: each is one sentence that helps."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import bilevelbench as bb
from bilevelbench import Draw, Problem, RequestError, build_problem, from_modules
from bilevelbench.api.arguments import unknown
from bilevelbench.cli import cli
from bilevelbench.contract import gate
from bilevelbench.contract.baseline import read, update
from bilevelbench.report.paper import canvas
from bilevelbench.report.verdict import _open

RIDGE = '''
from bilevelbench import Problem, problem


@problem("my_ridge")
def my_ridge(rng, d: int = 3):
    """A ridge of my own."""
    a = rng.put(rng.normal(d))
    return Problem(lambda x, y: (y - a) @ y, lambda x, y: (y - x) @ (y - x), rng.normal(d), rng.normal(d))
'''
BROKEN = '''
from bilevelbench import solver


@solver("broken")
class Broken:
    """A step with a name that nobody knows."""

    def step(self, o, s):
        return nowhere
'''


def refused(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    assert isinstance(done.exception, RequestError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Results in which nobody held a target."""
    solvers = ["bome(lr=0.01)", "aid_cg(lr=0.01)"]
    return bb.run("quadratic(d=2)", solvers, seeds=[0], steps=2, in_process=True, out=tmp_path_factory.mktemp("few"))


# -- figures and tables


def test_a_figure_is_written_to_a_text_and_to_known_endings_only(tmp_path, monkeypatch):
    figure, _ = canvas(3.0, 1)
    monkeypatch.chdir(tmp_path)
    figure.write("a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(RequestError, match=r"path='a\.xyz' is not valid here; it has to end in \.pdf, \.png, \.svg"):
        figure.write("a.xyz")


def test_one_that_may_lead_alone_is_no_field_of_rivals():
    said = _open(SimpleNamespace(among=["itd"], instances=20, lead={"itd": 0.9, "bome": 0.1}), "calls")
    assert said.startswith("No winner: nobody is cheaper")


def test_a_profile_without_targets_says_what_it_needs(tmp_path):
    (tmp_path / "bare.py").write_text(RIDGE.replace("my_ridge", "bare"))
    results = bb.run(
        str(tmp_path / "bare.py"), "bome", seeds=[0], steps=2, out=tmp_path / "out", in_process=True, progress=False
    )
    with pytest.raises(RequestError, match="a profile needs targets, and no problem here has any"):
        results.figure("profile")


def test_where_there_is_nothing_to_choose_from_nothing_is_offered():
    assert str(unknown("y", "phi", [])) == "y='phi' is not valid here: there is nothing to choose from"


# -- the Python face


@pytest.mark.parametrize(("problems", "solvers"), [([], "bome"), ("quadratic", []), ([], [])])
def test_nothing_is_not_the_whole_suite(problems, solvers, tmp_path):
    with pytest.raises(RequestError, match=r"\[\] is not valid; (problems|solvers) takes one or several; leave it out"):
        bb.run(problems, solvers, out=tmp_path)


def test_a_problem_that_is_made_has_its_type_already():
    with pytest.raises(RequestError, match="dtype='float32': this problem is made already, in float64"):
        bb.solve(build_problem("quadratic(d=3)", Draw(0)), "bome", steps=1, dtype="float32")
    solution = bb.solve(build_problem("quadratic(d=3)", Draw(0, dtype=torch.float32)), "bome", steps=1, dtype="float32")
    assert solution.x.dtype == torch.float32


def test_one_flag_may_stand_alone():
    made = build_problem("quadratic(d=3)", Draw(0))
    assert Problem(made.f, made.g, made.x0, made.y0, flags="convex").flags == {"convex"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rng": 0}, "rng=0 is not valid; it is the Draw"),
        ({"upper_module": None}, "upper_module=None is not valid; it is a torch.nn.Module"),
        ({"lower_module": nn.Linear}, "lower_module=<class .* is not valid"),
        ({"upper_loss": "ce"}, "upper_loss='ce' is not valid; it is a function"),
        ({"decay": "a"}, "decay='a' is not valid; it is a number"),
        ({"decay": -1}, "decay=-1 is not valid; it is at least 0"),
    ],
)
def test_modules_losses_and_decay_are_what_they_are_said_to_be(changed, words):
    rows = TensorDataset(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))

    def loss(upper, lower, a, t):
        return cross_entropy(lower(a), t)

    given = {
        "rng": Draw(0), "upper_module": nn.Linear(2, 1), "lower_module": nn.Linear(2, 2), "upper_loader": rows,
        "lower_loader": rows, "upper_loss": loss, "lower_loss": loss, "decay": 0.1,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=words):
        from_modules(**{**given, **changed})


@pytest.mark.parametrize("value", ["nope", [("quadratics", 2)], {"quadratics": "a"}, {3: 1.0}])
def test_weights_are_numbers_by_family(value, few):
    for ask in (few.leaders, few.verdict):
        with pytest.raises(RequestError, match=r"^weights=.* is not valid; weights takes numbers by family"):
            ask(weights=value)
    with pytest.raises(RequestError, match=r"^weights=.* is not valid"):
        few.report("nowhere", weights=value)


def test_targets_that_nobody_held_are_targets(few):
    said = str(few.verdict())
    assert "No solver held any target." in said
    assert "has targets" not in said
    assert "held 0% of its targets." in said  # no rank by a cost that nobody has
    for kind in ("profile", "ecdf"):
        with pytest.raises(RequestError, match="no solver among these held a target here"):
            few.figure(kind)


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path, few):
    (tmp_path / "taken").write_text("")
    figure = few.figure(problem="quadratic(d=2)")
    for path, words in ((tmp_path / "taken" / "a.pdf", "cannot be written"), (3, "path='3' is not valid here")):
        with pytest.raises(RequestError, match=words):
            figure.write(path)
    for path in (".", tmp_path):
        with pytest.raises(RequestError, match=r"is a folder; name a file, such as .*solution\.safetensors"):
            bb.solve("quadratic(d=2)", "bome", steps=2).save(path)


# -- the command line


def test_who_joins_a_plan_asks_for_nothing_else(tmp_path):
    for option, value in (("--out", tmp_path), ("--seeds", "0-3"), ("-p", "quadratic"), ("--here", None)):
        said = refused("run", "--join", tmp_path, option, *([] if value is None else [value]))
        assert f"leave out {option} (it takes --jobs and --patience)" in said
    assert "leave out smoke (" in refused("run", "smoke", "--join", tmp_path)


CONSTRAINED = """
from bilevelbench import Problem, problem
import torch

@problem("mine")
def mine(rng):
    one = torch.ones(3).double()
    return Problem(
        lambda x, y: y @ y, lambda x, y: (y - x) @ (y - x), one, 0 * one, y_star=lambda x: x, h_g=lambda x, y: WRONG
    )
"""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("y.sum()[None] * float('nan')", "h_g is not finite at the start"), ("y.sum()", r"h_g answers the shape \(\)")],
)
def test_constraints_are_finite_and_have_one_axis(tmp_path, wrong, words):
    (tmp_path / "mine.py").write_text(CONSTRAINED.replace("WRONG", wrong).replace("mine", f"mine_{len(wrong)}"))
    done = CliRunner().invoke(cli, ["check", str(tmp_path / "mine.py")])
    assert done.exit_code == 1
    assert re.search(rf"finite at the start +FAILED: {words}", done.output), done.output


def test_a_problem_s_file_is_listed(tmp_path):
    (tmp_path / "mine.py").write_text(RIDGE)
    done = CliRunner().invoke(cli, ["list", str(tmp_path / "mine.py")])
    assert done.exit_code == 0, done.output
    assert "problem my_ridge" in done.output
    assert "variables: 3 above, 3 below" in done.output
    (tmp_path / "both.py").write_text((RIDGE + BROKEN).replace("my_ridge", "another").replace("broken", "worse"))
    done = CliRunner().invoke(cli, ["list", str(tmp_path / "both.py")])
    assert done.exit_code == 0, done.output
    assert "problem another" in done.output
    assert "solver worse" in done.output


def test_tuned_settings_are_written_to_a_file(tmp_path):
    assert "is a folder; name the file" in refused("tune", "quadratic", "-s", "bome", "--calls", 30, "-o", tmp_path)


def test_a_history_is_written_into_a_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    stats = {"median": 1.0, "q1": 1.0, "q3": 1.0}
    bench = {"name": "b", "fullname": "b", "stats": stats, "extra_info": {"solver": "bome", "problem": "quadratic"}}
    info = {"python_version": "3.11", "identity": {"cpu": "c", "cores": 2}}
    commit = {"id": "0" * 40, "time": "2024-01-01T00:00:00+00:00"}
    (tmp_path / "saved.json").write_text(
        json.dumps(
            {"benchmarks": [bench], "machine_info": info, "commit_info": commit, "datetime": "2024-01-01T00:00:00"}
        )
    )
    assert "taken cannot be written" in refused(
        "report", "--history", tmp_path / "saved.json", "-o", tmp_path / "taken"
    )


# -- the gate


def test_a_layer_that_the_baseline_lacks_has_a_remedy(tmp_path):
    file = tmp_path / "gate.json"
    update(file, ["bome"], ["calls"])
    found = gate.verdict("bome", "floor", read(file))
    assert not found.passed
    assert "no ratio for" in found.expected
    assert gate.accept("bome", "floor", file) in gate.line(found, file)


def test_remedies_name_the_problem_by_its_flag():
    assert gate.accept("my.py on coreset(y0=[0,3])", "calls", "b.json") == (
        "bilevelbench gate my.py -p 'coreset(y0=[0,3])' --baseline b.json --update --layer calls"
    )
    with pytest.raises(RequestError, match=r"add it with `bilevelbench gate bome --update` and its --baseline"):
        gate.verdict("bome", "calls", {"solvers": {}, "versions": {}})


def test_what_cannot_be_measured_or_written_is_one_sentence(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    file = tmp_path / "gate.json"
    said = refused("gate", tmp_path / "broken.py", "--baseline", file, "--update", "--layer", "calls")
    assert "broken.py cannot be measured (NameError: name 'nowhere' is not defined)" in said
    update(file, ["bome"], ["calls"])
    known = read(file) | {"solvers": {str(tmp_path / "broken.py"): {}}}
    with pytest.raises(RequestError, match=r"broken\.py cannot be measured \(NameError"):
        gate.verdict(str(tmp_path / "broken.py"), "calls", known)
    lost = tmp_path / "nowhere" / "gate.json"
    assert "cannot be written" in refused("gate", "bome", "--baseline", lost, "--update", "--layer", "calls")
    said = refused("gate", "bome", "--baseline", file, "--layer", "calls", "--markdown", tmp_path / "nowhere" / "x.md")
    assert "x.md cannot be written" in said
    assert json.loads(file.read_text())["solvers"]["bome"]["calls"]
