"""The asv suite: its settings are read, its lists are the registries', and every benchmark runs."""

import ast
import importlib
import importlib.metadata
import inspect
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from asv import util
from asv.config import Config

from bilevelbench import Draw, Unsupported
from bilevelbench.asv import (
    exact,
    hand_jax,
    install,
    names,
    overhead,
    package,
    replay,
    rows,
    speed,
    suite,
    with_compiler,
)  # fmt: skip
from bilevelbench.contract.cost import declared
from bilevelbench.core.door import WORTH
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver, resolve
from bilevelbench.core.solver import require

ROOT = Path(__file__).parents[1]
CONF = ROOT / "asv.conf.json"
CLASSES = [exact.Calls, exact.Memory, exact.Target, speed.Floor, speed.Time]
EVERY = [exact.Calls, exact.Memory, speed.Time]  # run here with every solver; the others take long


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
    tree = ast.parse(inspect.getsource(names))
    (value,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == name]
    return ast.literal_eval(value)


@pytest.mark.parametrize(
    ("name", "registry", "package"), [("SOLVER_NAMES", SOLVERS, "solvers"), ("PROBLEM_NAMES", PROBLEMS, "problems")]
)
def test_the_lists_are_the_registry(name, registry, package):
    listed = literal(name)
    missing = sorted(shipped(registry, package) - set(listed))
    assert not missing, f"add {missing} at the end of {name} in harness/asv/names.py; asv counts on the order"
    assert len(listed) == len(set(listed))
    assert listed == getattr(names, name)


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


@pytest.mark.parametrize("given", [("quadratic", "no_such_solver"), ("no_such_problem", "bome")])
@pytest.mark.parametrize("cls", CLASSES)
def test_what_a_commit_lacks_is_not_available(cls, given):
    with pytest.raises(NotImplementedError):
        cls().setup(*given)


def test_what_does_not_fit_is_not_available(monkeypatch):
    monkeypatch.setattr("bilevelbench.solvers.soba.SOBA.needs", ("minibatches",))
    with pytest.raises(NotImplementedError, match="minibatches"):
        exact.Calls().setup("quadratic", "soba")


def test_a_step_that_takes_minutes_is_not_available():
    with pytest.raises(NotImplementedError, match="more than 1000 calls"):
        exact.Memory().setup("hyper_cleaning", "fmd")


def test_compiling_is_in_no_reading_of_the_loop_by_hand():
    """It takes longer than a reading: with it the first, of eight steps, was long enough, and calls were measured."""
    asked = []

    def by_hand(k):
        asked.append(k)
        return 1.0 if len(asked) == 1 else 1e-6 * k

    pair = SimpleNamespace(engine=lambda k: 0.0, by_hand=by_hand)
    assert 1e-6 * hand_jax.long_enough(pair) >= hand_jax.LONG


def values():
    """How many values each benchmark of the suite has, by its name in asv."""
    found = {}
    hand = [importlib.import_module(f"bilevelbench.asv.{name}") for name in ("hand", "hand_jax")]
    for module in (exact, speed, overhead, package, with_compiler, *hand):
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and cls.__module__ == module.__name__:
                count = math.prod(len(list_) for list_ in getattr(cls, "params", ()))
                for bench in (one for one in dir(cls) if re.match(r"(track|time)_", one)):
                    found[f"{module.__name__.rpartition('.')[2]}.{name}.{bench}"] = count
    return found


def test_a_person_who_waits_gets_few_values_and_exact_ones_first():
    """asv goes through its benchmarks by name."""
    found = values()
    assert {"exact.Calls.track_calls_per_step", "speed.Time.time_step"} < set(found)
    assert sum(n for name, n in found.items() if not name.startswith("with_compiler")) <= 300
    kinds = list(dict.fromkeys(name.partition(".")[0] for name in sorted(found)))
    assert (kinds[0], kinds[-1]) == ("exact", "with_compiler")
    with pytest.raises(NotImplementedError, match="BILEVELBENCH_ASV=all compiles"):
        with_compiler.Engines().setup("quadratic", "bome(T=10)")


@pytest.mark.parametrize(
    ("profile", "solvers", "problems"),
    [("", len(names.FEW_SOLVERS), 6), ("nightly", len(names.SOLVER_NAMES), len(names.PROBLEM_NAMES))],
)
def test_a_variable_chooses_how_much_is_followed(profile, solvers, problems):
    code = "from bilevelbench.asv import exact, speed; print(len(speed.Time.params[1]), len(exact.Memory.params[0]))"
    env = os.environ | {"BILEVELBENCH_ASV": profile}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(solvers), str(problems)]


def test_a_wrong_profile_is_one_sentence(monkeypatch):
    monkeypatch.setenv("BILEVELBENCH_ASV", "daily")
    with pytest.raises(ValueError, match="it takes nothing, 'nightly' or 'all'"):
        exec(compile(inspect.getsource(names), "names", "exec"), {})


def test_the_few_are_among_all():
    assert set(names.FEW_SOLVERS) | set(names.MEMORY_SOLVERS) <= set(names.SOLVER_NAMES)
    assert set(names.FEW_PROBLEMS) | set(names.SPEED_NAMES) | set(names.TARGET_NAMES) <= set(names.PROBLEM_NAMES)


def test_every_benchmark_has_a_threshold():
    known = Config.load(str(CONF)).regressions_thresholds
    for name in values():
        assert [pattern for pattern in known if re.match(pattern, name)], f"{name} would be flagged from 5 % on"


def test_seconds_are_those_of_the_cpu():
    assert speed.Time.timer is time.process_time


def test_the_suite_for_others_has_their_solvers():
    made = suite.of(["bome"], ["quadratic(d=3)"])
    assert set(made) == {"Calls", "Memory", "Target", "Floor", "Time"}
    bench = made["Target"]()
    bench.setup("quadratic(d=3)", "bome")
    assert bench.track_calls_to_target("quadratic(d=3)", "bome") > 0
    assert made["Calls"].params == (["quadratic(d=3)"], ["bome"])
    assert exact.Calls.params[1] == names.SOLVER_NAMES, "ours are as they were"
    with pytest.raises(ValueError, match="both are lists"):
        suite.of("bome")


@pytest.mark.parametrize("reachable", [True, False])
def test_an_environment_has_no_cuda_where_there_is_an_index_of_such_builds(reachable, monkeypatch, tmp_path):
    asked = []

    def run(command, **options):
        asked.append(command)
        failed = "pip" in command and not reachable
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    said = install.installed(tmp_path, ROOT)
    skipped = [word for word in asked[-1] if word.startswith(("nvidia-", "triton", "torch"))]
    assert ("without CUDA" in said) == reachable
    assert {"torch", "triton", "nvidia-cudnn-cu13"} <= set(skipped) if reachable else not skipped


def environment(folder, module=""):
    """An environment with nothing in it, or with one package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if module:
        (Path(install._asked(folder)[1]) / f"{module}.py").write_text(f"name = {folder.name!r}\n")
    return folder


def test_the_packages_of_the_checkout_are_found_and_not_copied(tmp_path, monkeypatch):
    own, made = environment(tmp_path / ".venv", "package"), environment(tmp_path / "made")
    monkeypatch.setattr(install, "agrees", lambda *places: True)
    assert "as in uv.lock" in install.install(made, tmp_path)

    def asked():
        command = [made / "bin" / "python", "-c", "import package; print(package.name)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert asked() == own.name
    assert replay.megabytes(made) < 1
    (Path(install._asked(made)[1]) / "package.py").write_text("name = 'its own'\n")
    assert asked() == "its own", "what the environment has comes first"


@pytest.mark.parametrize(
    ("python", "checked", "agreed"), [("", 0, True), ("3 0", 0, False), ("", 1, False), (None, 0, False)]
)
def test_packages_that_the_lock_file_does_not_name_are_not_taken(python, checked, agreed, tmp_path, monkeypatch):
    """Another Python, another version, no environment at all."""
    own, made = tmp_path / ".venv", tmp_path / "made"
    if python is not None:
        own.mkdir()
        (own / "pyvenv.cfg").touch()

    def run(command, **options):
        told = f"{python}\n" if command[0] == own / "bin" / "python" else "\n"
        return subprocess.CompletedProcess(command, checked if "--check" in command else 0, told)

    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.agrees(made, own, tmp_path) == agreed


def test_the_suite_has_loaded_all_solvers_and_problems():
    """asv forks each of thousands of values from a process with the suite: what it has not, each imports anew."""
    code = (
        "import bilevelbench.asv.exact\nfrom bilevelbench.core.registry import PROBLEMS, SOLVERS\n"
        "assert len(SOLVERS.entries) > 40 and len(PROBLEMS.entries) > 30"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the benchmarks


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("solver", names.SOLVER_NAMES)
def test_every_solver(cls, solver):
    bench = cls()
    bench.setup("quadratic", solver)
    value = getattr(bench, method(cls))("quadratic", solver)
    if cls is exact.Calls:
        bounds = declared(bench.solver, bench.problem)
        low, high = (sum(WORTH[kind] * ends[i] for kind, ends in bounds.items()) for i in (0, 1))
        assert low <= value <= high
    elif cls is exact.Memory:
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
    assert value is None if cls is speed.Time else value > 0


def fits(solver, problem):
    try:
        require(make_solver(solver), problem)
    except Unsupported:
        return False
    return True


def test_calls_to_target_is_exact():
    bench = exact.Target()
    bench.setup("quadratic", "bome")
    value = bench.track_calls_to_target("quadratic", "bome")
    assert value > 0
    assert value == bench.track_calls_to_target("quadratic", "bome"), "the same again"
    bench.setup("quadratic", "lower_only")  # x stays where it is
    assert math.isnan(bench.track_calls_to_target("quadratic", "lower_only"))


def test_step_over_floor(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 3)
    bench = speed.Floor()
    bench.setup("quadratic", "itd")
    assert 0.5 < bench.track_step_over_floor("quadratic", "itd") < 50


def test_without_a_gpu_its_seconds_are_not_available():
    if not torch.cuda.is_available():
        with pytest.raises(NotImplementedError, match="no CUDA device"):
            speed.OnGpu().setup("hyper_cleaning", "bome")


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


needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asv wants a repository, and this is none")


@needs_git
def test_asv_check():
    """asv finds the suite, imports it its own way and accepts every signature."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", "check", "-E", f"existing:{sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


@needs_git
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


def results(folder, commits, values):
    """asv's results of six commits: values[bench][k] are those of the solvers at commit k."""
    import json

    (folder / "box").mkdir(parents=True)
    params = [["'quadratic'"], ["'bome'", "'itd'", "'aid_cg'"]]
    known = {"version": 2}
    for name in values:
        kind = "time" if ".time_" in name else "track"
        known[name] = {"name": name, "type": kind, "param_names": ["problem", "solver"], "params": params, "unit": "u",
                       "version": "1", "code": "", "pretty_name": None}  # fmt: skip
    (folder / "benchmarks.json").write_text(json.dumps(known))
    machine = {"arch": "x", "cpu": "x", "machine": "box", "num_cpu": "2", "os": "x", "ram": "1"}
    (folder / "box" / "machine.json").write_text(json.dumps(machine | {"version": 1}))
    for k, commit in enumerate(commits):
        content = {"commit_hash": commit, "env_name": "virtualenv-py3.11", "date": 1_700_000_000_000 + 86_400_000 * k,
                   "params": machine | {"python": "3.11"}, "python": "3.11", "requirements": {}, "env_vars": {},
                   "result_columns": ["result", "params", "version"], "durations": {}, "version": 2,
                   "results": {name: [list(series[k]), params, "1"] for name, series in values.items()}}  # fmt: skip
        (folder / "box" / f"{commit[:8]}-virtualenv-py3.11.json").write_text(json.dumps(content))


def test_regressions_are_what_was_planted_and_nothing_else(tmp_path):
    """With the noise that was measured on one commit: ratios within 1.2, CPU seconds within 1.7, counts exact."""
    import json
    import random

    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    commits = []
    for k in range(6):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(k)], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        commits.append(done.stdout.strip())
    rng = random.Random(3)
    slow = [[1.3 if k >= 2 else 1, 2 if k >= 3 else 1, 1] for k in range(6)]
    results(tmp_path / "results", commits, {
        "speed.Floor.track_step_over_floor": [[x * rng.uniform(0.96, 1.04) for x in row] for row in slow],
        "speed.Time.time_step": [[1e-3 * rng.uniform(0.8, 1.3) for _ in row] for row in slow],
        "exact.Calls.track_calls_per_step": [[13, 21, 33]] * 6,
        "exact.Memory.track_peak_bytes": [[900, 900, 1800 if k >= 4 else 900] for k in range(6)],
    })  # fmt: skip
    conf = settings() | {"version": Config.api_version} | {
        "repo": str(tmp_path), "benchmark_dir": str(ROOT / "harness" / "asv"), "html_dir": str(tmp_path / "html"),
        "results_dir": str(tmp_path / "results"), "env_dir": str(tmp_path / "env"),
    }  # fmt: skip
    (tmp_path / "asv.conf.json").write_text(json.dumps(conf))
    command = [sys.executable, "-m", "asv", "--config", str(tmp_path / "asv.conf.json"), "publish"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert replay.flagged(json.loads((tmp_path / "html" / "regressions.json").read_text())) == replay.PLANTED


def test_the_replay_plants_what_it_says(tmp_path):
    """The planted lines run: with them BOME's step takes longer, and AID-CG's holds more."""
    source = tmp_path / "checkout"
    source.mkdir()
    (source / "solvers").mkdir()
    for solver in ("bome", "itd", "aid_cg"):
        (source / "solvers" / f"{solver}.py").write_text((ROOT / "solvers" / f"{solver}.py").read_text())
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-C", str(source)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "now"]):
        subprocess.run([*git, *words], check=True)
    replay.commits(source, tmp_path / "clone")
    log = subprocess.run(
        ["git", "-C", str(tmp_path / "clone"), "log", "--format=%s"], capture_output=True, text=True, check=True
    )
    assert log.stdout.splitlines()[:6] == [name for name, *_ in reversed(replay.COMMITS)]
    for solver in ("bome", "itd", "aid_cg"):
        text = (tmp_path / "clone" / "solvers" / f"{solver}.py").read_text()
        assert "# planted" in text
        compile(text, solver, "exec")
