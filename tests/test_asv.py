"""The asv suite: its settings are read, its lists are the registries', and every benchmark runs."""

import ast
import importlib.metadata
import inspect
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from asv import util
from asv.config import Config

from bilevelbench import Draw, Unsupported
from bilevelbench.asv import overhead, package, rows, steps
from bilevelbench.contract.cost import declared
from bilevelbench.core.door import WORTH
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver, resolve
from bilevelbench.core.solver import require
from bilevelbench.core.spec import ENGINES

ROOT = Path(__file__).parents[1]
CONF = ROOT / "asv.conf.json"
CLASSES = [steps.Calls, steps.Memory, steps.Target, steps.Floor, steps.Time]
EVERY = [steps.Calls, steps.Memory, steps.Time]  # run here with every solver; the others take long


def method(cls):
    """The one benchmark of a class, by asv's naming rule."""
    (name,) = [name for name in dir(cls) if re.match(r"(track|time)_", name)]
    return name


def shipped(registry, package):
    registry.load()
    return {
        name for name, entry in registry.entries.items() if entry.make.__module__.startswith(f"bilevelbench.{package}.")
    }


@pytest.fixture(autouse=True)
def _threads():
    """The benchmarks pin torch to one thread; the other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# -- settings


def settings():
    return util.load_json(str(CONF), Config.api_version, js_comments=True)


def test_every_setting_is_known():
    """asv ignores misspelt keys silently."""
    assert set(settings()) - set(vars(Config())) == set()


def test_the_folders():
    conf = Config.load(str(CONF))
    assert (ROOT / conf.benchmark_dir / "__init__.py").is_file()
    made = [conf.results_dir, conf.html_dir, conf.env_dir]
    assert all(Path(folder).parent == Path("reports/asv") for folder in made)
    assert len(set(made)) == 3, "asv publish deletes html_dir, so nothing else may be there"
    assert conf.branches == ["main"]


def test_the_commands_can_be_read():
    """Every name in braces is one that asv fills in."""
    conf = Config.load(str(CONF))
    names = ("project", "conf_dir", "env_name", "env_dir", "env_type", "commit", "build_dir", "build_cache_dir")
    known = {name: name for name in (*names, "wheel_file")}
    for command in (*conf.build_command, *conf.install_command, *conf.uninstall_command):
        words, environ, _, _ = util.interpolate_command(command, known)
        assert words[0] == "python"
        assert "{" not in "".join([*words, *environ.values()])


def test_one_asv_runner_everywhere():
    """Its sampling rules change between versions: the pin of new environments is the version of this one."""
    assert Config.load(str(CONF)).matrix["req"]["pip+asv_runner"] == [importlib.metadata.version("asv_runner")]


# -- parameters


def literal(name):
    """The value of a module-level list, which must be written out: a computed one shifts between commits."""
    tree = ast.parse(inspect.getsource(steps))
    (value,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == name]
    return ast.literal_eval(value)


@pytest.mark.parametrize(
    ("name", "registry", "package"), [("SOLVER_NAMES", SOLVERS, "solvers"), ("PROBLEM_NAMES", PROBLEMS, "problems")]
)
def test_the_lists_are_the_registry(name, registry, package):
    names = literal(name)
    missing = sorted(shipped(registry, package) - set(names))
    assert not missing, f"add {missing} at the end of {name} in harness/asv/steps.py; asv counts on the order"
    assert len(names) == len(set(names))
    assert names == getattr(steps, name)


def test_parameters_of_old_commits_stay():
    """asv addresses parameters by their place: these lists may grow at their end and nowhere else."""
    assert literal("PROBLEM_NAMES")[:7] == [
        "quadratic", "coreset", "minimax", "singleton", "logistic", "hyper_cleaning", "few_shot",
    ]  # fmt: skip
    assert literal("SOLVER_NAMES")[:9] == [
        "bome", "penalty", "itd", "aid_cg", "aid_neumann", "vpbgd", "f2sa", "soba", "first_order",
    ]  # fmt: skip
    assert literal("SPEED_NAMES")[:2] == ["quadratic", "hyper_cleaning"]
    assert [list(values) for values in overhead.Overhead.params] == [
        ["quadratic", "hyper_cleaning"], ["bome(T=10)", "itd(T=10)"],
    ]  # fmt: skip


@pytest.mark.parametrize("cls", [*CLASSES, overhead.Overhead])
def test_benchmarks_say_their_version(cls):
    assert isinstance(cls.version, str), "without one, any edit of the source throws the history away"
    assert len(cls.params) == len(cls.param_names)


@pytest.mark.parametrize("names", [("quadratic", "no_such_solver"), ("no_such_problem", "bome")])
@pytest.mark.parametrize("cls", CLASSES)
def test_what_a_commit_lacks_is_not_available(cls, names):
    with pytest.raises(NotImplementedError):
        cls().setup(*names)


def test_what_does_not_fit_is_not_available(monkeypatch):
    monkeypatch.setattr("bilevelbench.solvers.soba.SOBA.needs", ("minibatches",))
    with pytest.raises(NotImplementedError, match="minibatches"):
        steps.Calls().setup("quadratic", "soba")


def test_a_step_that_takes_minutes_is_not_available():
    with pytest.raises(NotImplementedError, match="more than 1000 calls"):
        steps.Memory().setup("hyper_cleaning", "fmd")


def test_memory_of_all_solvers_on_all_problems_is_for_those_who_ask(monkeypatch):
    with pytest.raises(NotImplementedError, match="ASV_ALL=1 follows all"):
        steps.Memory().setup("coreset", "nystrom")
    monkeypatch.setenv(steps.ALL, "1")
    steps.Memory().setup("coreset", "nystrom")


def test_the_suite_has_loaded_all_solvers_and_problems():
    """asv forks each of thousands of values from a process with the suite: what it has not, each imports anew."""
    code = (
        "import bilevelbench.asv.steps\nfrom bilevelbench.core.registry import PROBLEMS, SOLVERS\n"
        "assert len(SOLVERS.entries) > 40 and len(PROBLEMS.entries) > 30"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the benchmarks


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("solver", steps.SOLVER_NAMES)
def test_every_solver(cls, solver):
    bench = cls()
    bench.setup("quadratic", solver)
    value = getattr(bench, method(cls))("quadratic", solver)
    if cls is steps.Calls:
        bounds = declared(bench.solver, bench.problem)
        low, high = (sum(WORTH[kind] * ends[i] for kind, ends in bounds.items()) for i in (0, 1))
        assert low <= value <= high
    elif cls is steps.Memory:
        assert value >= 2 * bench.problem.x0.nbytes, "a step makes a new x and a new y"
        assert value == bench.track_peak_bytes("quadratic", solver), "exact, hence the same again"
    else:
        assert value is None, "asv reads the clock itself"


@pytest.mark.parametrize(
    ("cls", "problem"), [(cls, problem) for cls in EVERY for problem in cls.params[0] if problem != "quadratic"]
)
def test_every_problem(cls, problem):
    bench = cls()
    try:
        made = build_problem(problem, Draw(0))
    except Unsupported as reason:
        pytest.skip(str(reason))  # its data cannot be had here
    solver = next(name for name in ("bome", "lv_hba", "bic_gaffa") if fits(name, made))
    bench.setup(problem, solver)
    value = getattr(bench, method(cls))(problem, solver)
    assert value is None if cls is steps.Time else value > 0


def fits(solver, problem):
    try:
        require(make_solver(solver), problem)
    except Unsupported:
        return False
    return True


def test_calls_to_target_is_exact():
    bench = steps.Target()
    bench.setup("quadratic", "bome")
    value = bench.track_calls_to_target("quadratic", "bome")
    assert value > 0
    assert value == bench.track_calls_to_target("quadratic", "bome"), "the same again"
    bench.setup("quadratic", "lower_only")  # x stays where it is
    assert math.isnan(bench.track_calls_to_target("quadratic", "lower_only"))


def test_step_over_floor(monkeypatch):
    monkeypatch.setattr(steps, "ROUNDS", 3)
    for engine in ("eager", "functional"):
        bench = steps.Floor()
        bench.setup("quadratic", "itd", engine, "cpu")
        assert 0.5 < bench.track_step_over_floor("quadratic", "itd", engine, "cpu") < 50


@pytest.mark.parametrize(
    ("engine", "device", "solver"), [("cuda_graph", "cpu", "bome"), ("functional", "cpu", "aid_cg")]
)
def test_engines_that_cannot_or_need_not_be_followed_are_not_available(engine, device, solver):
    with pytest.raises(NotImplementedError):
        steps.Time().setup("quadratic", solver, engine, device)


def test_the_engines_are_those_of_the_kernel():
    assert set(literal("ENGINE_NAMES")) == set(ENGINES) - {"batched", "in_process"}, "append what is new"
    assert literal("DEVICE_NAMES") == ["cpu", "cuda"]
    if not torch.cuda.is_available():
        with pytest.raises(NotImplementedError, match="no CUDA device"):
            steps.Time().setup("quadratic", "bome", "eager", "cuda")


def test_a_report_is_timed(monkeypatch):
    monkeypatch.setattr(rows, "PROBLEMS", 1)
    monkeypatch.setattr(rows, "SOLVERS", 2)
    bench = package.Report()
    bench.setup(1)
    bench.time_report(1)
    assert (Path(bench.folder.name) / "report" / "index.html").is_file()
    bench.teardown(1)


def test_overhead(monkeypatch):
    """The ratios are positive numbers; how large they are is for asv to follow."""
    monkeypatch.setattr(overhead, "ROUNDS", 1)
    for solver in overhead.Overhead.params[1]:
        resolve(SOLVERS, solver)
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in overhead.ratios("quadratic", solver, 3))


def test_asv_check():
    """asv finds the suite, imports it its own way and accepts every signature."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", "check", "-E", f"existing:{sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


def test_asv_runs_a_benchmark(tmp_path):
    """One quick benchmark, with the suite's own settings, in this environment; nothing is written to the checkout."""
    import json

    conf = settings() | {"version": Config.api_version} | {
        "repo": str(ROOT), "benchmark_dir": str(ROOT / "harness" / "asv"),
        "results_dir": str(tmp_path / "results"), "html_dir": str(tmp_path / "html"), "env_dir": str(tmp_path / "env"),
    }  # fmt: skip
    (tmp_path / "asv.conf.json").write_text(json.dumps(conf))
    asv = [sys.executable, "-m", "asv", "--config", str(tmp_path / "asv.conf.json")]
    env = os.environ | {"HOME": str(tmp_path)}  # asv keeps what it knows of the machine there
    known = subprocess.run([*asv, "machine", "--yes"], env=env, capture_output=True, text=True, check=False)
    assert known.returncode == 0, known.stdout + known.stderr
    bench = r"Calls\.track_calls_per_step\('quadratic', 'bome'\)"
    quick = ["run", "--quick", "--show-stderr", "--dry-run", "-E", f"existing:{sys.executable}", "--bench", bench]
    done = subprocess.run([*asv, *quick], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"track_calls_per_step\s+.*13", done.stdout, re.DOTALL), done.stdout
