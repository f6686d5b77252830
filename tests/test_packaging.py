"""The wheel holds the package, all of it and nothing else, and works where there is no checkout."""

import email
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from bilevelbench.asv import install, suite
from bilevelbench.contract import gate
from tests import test_plugins, tree
from tests.test_workflow import quoted

pytestmark = pytest.mark.xdist_group("packaging")  # one process makes what the module's tests share
ROOT = Path(__file__).parents[1]
MAPPED = {"harness": "bilevelbench", "solvers": "bilevelbench/solvers", "problems": "bilevelbench/problems"}
CODE = {".py", ".typed"}
DATA = {
    "report/scripts": None,
    "report/templates": None,
    "report/vendor": None,
    "problems/bolib_rows": (".toml",),
    "suites": (".toml", ".jsonl", ".csv"),
}  # folder of the package -> its data (None: all)


def run(*command, cwd, path="", **options):
    """Run this interpreter elsewhere, with one folder before its own packages and no settings of the caller."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BILEVELBENCH"))}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env | {"PYTHONPATH": str(path)}, capture_output=True, text=True,
        check=False, **options,
    )  # fmt: skip


def expected():
    """The files that the wheel must hold besides its metadata."""
    names = set()
    for folder, package in MAPPED.items():
        for file in (ROOT / folder).rglob("*"):
            name = f"{package}/{file.relative_to(ROOT / folder).as_posix()}"
            data = any(
                name.startswith(f"bilevelbench/{place}/") and (suffixes is None or file.suffix in suffixes)
                for place, suffixes in DATA.items()
            )
            if file.is_file() and "__pycache__" not in name and (file.suffix in CODE or data):
                names.add(name)
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what is in the tree, so that build leaves nothing behind in the checkout."""
    return built("wheel", tmp_path_factory)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel unpacked into a folder of its own, as `pip install --no-deps --target` does; the rest is this
    environment's."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """A source distribution, likewise, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", tmp_path_factory)) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


def built(kind, tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in source_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    done = run("-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source), cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    return file


def source_files():
    """What the source consists of, but for the links of type checkers, which need not be followed everywhere."""
    return [name for name in tree.tracked() if not name.startswith(".typings/")]


def test_the_wheel_is_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected()
    assert {"bilevelbench/solvers/bome.py", "bilevelbench/problems/quadratic.py"} < names
    assert any(name.endswith(".toml") for name in names)
    assert "bilevelbench/py.typed" in names


def test_the_sdist_is_the_source(sdist):
    """Its tests find there what they need; they pass from it, which ``.ci/supported`` tries."""
    made = {"PKG-INFO", "setup.cfg"}
    found = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert {name for name in found if ".egg-info" not in name} - made == set(source_files())


def test_the_metadata_say_who_can_use_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        said = email.message_from_bytes(archive.read(name))
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (said["Version"], said["License-Expression"]) == (about["version"], "MIT")
    pythons = {text.rpartition(" ")[2] for text in said.get_all("Classifier") if re.search(r":: 3\.\d+$", text)}
    assert min(pythons, key=lambda text: int(text[2:])) == said["Requires-Python"].removeprefix(">=")
    assert "Typing :: Typed" in said.get_all("Classifier")
    assert {"Source", "Issues", "Changelog"} == {text.partition(",")[0] for text in said.get_all("Project-URL")}
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (about["version"], about["license"])
    assert f"version = {{{about['version']}}}" in (ROOT / "docs" / "cite.md").read_text()


def test_the_installed_copy_is_the_one_used(installed, tmp_path):
    """From an empty folder, before the editable install of the checkout."""
    code = (
        "import bilevelbench, bilevelbench.solvers, bilevelbench.problems as p, bilevelbench.core.oracle as o\n"
        "from bilevelbench.core.registry import SOLVERS\n"
        "print(bilevelbench.__file__, bilevelbench.solvers.__file__, p.__file__, o.__file__, sep='\\n')\n"
        "SOLVERS.load()\n"
        "print(*[entry.file for entry in SOLVERS.entries.values()], sep='\\n')\n"
    )
    done = run("-c", code, cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    files = done.stdout.split("\n")[:-1]
    assert len(files) >= 5
    assert [file for file in files if not file.startswith(str(installed))] == []


@pytest.mark.process(sibling="test_the_installed_copy_is_the_one_used")
def test_a_suite_runs_from_the_wheel(installed, tmp_path):
    done = run("-m", "bilevelbench", "run", "smoke", cwd=tmp_path, path=installed, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results" / "report" / "index.html").is_file()
    assert list((tmp_path / "results").glob("*.jsonl"))


MINE = """
from typing import NamedTuple

from bilevelbench import Oracle, Point, solver


@solver("mine")
class Mine:
    \"\"\"Alternating gradient steps. A reader of the documentation, "My first solver", 2026.\"\"\"

    lr: float = 0.01
    lr_inner: float = 0.1

    order = 1
    calls = "dg_y, df"

    def step(self, o: Oracle, s: Point) -> Point:
        y = o.project_y(s.y - self.lr_inner * o.dg_y(s.x, s.y))
        fx, _ = o.df(s.x, y)
        return Point(o.project_x(s.x - self.lr * fx), y)
"""
BENCH = """
from bilevelbench.asv import suite

globals().update(suite.of(solvers=[{file!r}], problems=["quadratic(d=3)"]))
"""


@pytest.mark.process(sibling="test_the_installed_copy_is_the_one_used")
def test_a_new_solver_walks_through_everything(installed, tmp_path):
    """check, run, report, gate and asv, from the wheel, in a folder that knows nothing of the checkout."""
    file = tmp_path / "mine.py"
    file.write_text(MINE)

    def bilevelbench(*arguments):
        return run("-m", "bilevelbench", *arguments, cwd=tmp_path, path=installed, timeout=600)

    checked = bilevelbench("check", "mine.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    command = ["run", "-p", "quadratic(d=3)", "-s", "mine.py", "-s", "bome", "--steps", "40", "--seeds", "0-1"]
    made = bilevelbench(*command)
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(list((tmp_path / "results").glob("*.jsonl"))) == 4
    reported = bilevelbench("report", "results", "--out", "page")
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert "mine" in reported.stdout
    assert "mine" in (tmp_path / "page" / "index.html").read_text()
    kept = bilevelbench("gate", "mine.py", "--baseline", "costs.json", "--update")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    held = bilevelbench("gate", "mine.py", "--baseline", "costs.json")
    assert held.returncode == 0, held.stdout + held.stderr
    assert tracked(tmp_path, installed) == 2

    file.write_text(MINE.replace("        fx, _", "        o.dg_y(s.x, y)\n        fx, _"))  # one call more
    dearer = bilevelbench("gate", "mine.py", "--baseline", "costs.json")
    assert dearer.returncode == 1, dearer.stdout + dearer.stderr
    assert "dg_y" in dearer.stdout
    assert bilevelbench("check", "mine.py").returncode == 1
    assert tracked(tmp_path, installed) == 3
    again = bilevelbench(*command)
    assert "2 of them are finished already" in again.stdout  # bome's


def tracked(folder, installed):
    """What asv finds as the calls of a step, with a suite of the user's own in a repository of the user's own."""
    (folder / "bench").mkdir(exist_ok=True)
    (folder / "bench" / "__init__.py").touch()
    (folder / "bench" / "steps.py").write_text(BENCH.format(file=str(folder / "mine.py")))
    (folder / "asv.conf.json").write_text(
        '{"version": 1, "project": "mine", "repo": ".", "benchmark_dir": "bench", "environment_type": "virtualenv"}'
    )
    if not (folder / ".git").exists():
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
        for words in (["init", "-q"], ["add", "mine.py"], ["commit", "-q", "-m", "mine"]):
            subprocess.run([*git, *words], cwd=folder, check=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BILEVELBENCH"))}
    env |= {"PYTHONPATH": str(installed), "HOME": str(folder)}  # asv keeps what it knows of the machine there
    asv = [sys.executable, "-m", "asv"]
    subprocess.run([*asv, "machine", "--yes"], cwd=folder, env=env, check=True, capture_output=True)
    quick = ["run", "--quick", "--show-stderr", "--dry-run", "-E", f"existing:{sys.executable}", "--bench", "Calls"]
    done = subprocess.run([*asv, *quick], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"mine\.py\s+(\d+\.\d+)\s", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


# -- a library of somebody else's


def shown(text, after, before):
    """The lines that a text shows, as a file."""
    return "\n".join(quoted(text, after, before)) + "\n"


THEIRS = {
    "pyproject.toml": test_plugins.pyproject("theirs", "theirs", "solvers"),
    "theirs/__init__.py": "",
    "theirs/solvers.py": MINE.replace('"mine"', '"theirs"'),
    "asv.conf.json": """{
    "version": 1, "project": "theirs", "repo": ".", "benchmark_dir": "benchmarks", "environment_type": "virtualenv"
}
""",
    "benchmarks/__init__.py": "",
    "benchmarks/steps.py": shown(suite.__doc__, "for asv:\n", "``mine``").replace("mine", "theirs"),
    "tests/test_costs.py": "import pytest\nfrom bilevelbench.contract.gate import LAYERS, gate\n"
    + shown(gate.__doc__, "pytest-benchmark:\n", "`bilevelbench gate").replace("my_solver.py", "theirs"),
    ".github/workflows/speed.yml": shown(
        (ROOT / ".github" / "workflows" / "compare.yml").read_text(), "In another library:\n", "#\n# The job that runs"
    ).replace("my_solver another_solver", "theirs"),
}
ADOPTED = ("asv.conf.json", "benchmarks/steps.py"), ("tests/test_costs.py",), (".github/workflows/speed.yml",)


@pytest.fixture
def theirs(wheel, tmp_path):
    """The library in a repository of its own, and an environment with our wheel and with it, as `pip install -e`."""
    folder, env = tmp_path / "theirs", tmp_path / "env"
    made = test_plugins.built(folder, THEIRS)
    shutil.rmtree(folder / "build", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    install.linked(env, Path(sys.prefix))
    packages = Path(install._asked(env)[1])
    for file in (wheel, made):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(packages, [one for one in archive.namelist() if not one.startswith("theirs/")])
    (packages / "theirs.pth").write_text(f"{folder}\n")
    (env / "bin" / "bilevelbench").write_text(f'#!/bin/sh\nexec {env}/bin/python -m bilevelbench "$@"\n')
    (env / "bin" / "bilevelbench").chmod(0o755)
    known = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BILEVELBENCH", "PYTEST"))
    }
    known |= {"PATH": f"{env / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}

    def shell(script, **more):
        command = ["bash", "-euc", script]
        return subprocess.run(command, cwd=folder, env=known | more, capture_output=True, text=True, check=False)

    assert shell("git init -q; git add asv.conf.json benchmarks pyproject.toml theirs tests").returncode == 0
    return folder, shell


def committed(shell, message):
    """The full name of a commit of all changes."""
    who = "-c user.name=me -c user.email=me@example.org"
    done = shell(f"git {who} commit -q -a -m {message} && git rev-parse HEAD")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def followed(shell):
    """What asv finds as the calls of a step of theirs."""
    asv = "python -m asv run --quick --show-stderr --dry-run -E existing:$(command -v python) --bench Calls"
    done = shell(f"python -m asv machine --yes > /dev/null && {asv}")
    found = re.search(r"^.* theirs +\n.*\n +quadratic\(d=100\) +(\d+\.\d+) +$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr  # a column for each solver
    return float(found[1])


@pytest.mark.process(sibling="test_calling_the_workflow_is_ten_lines_that_name_what_there_is")
def test_another_library_adopts_asv_gate_and_workflow(theirs):
    """Ten lines each; then a commit of theirs that asks more is found by each."""
    folder, shell = theirs
    for names in ADOPTED:
        assert sum(len([line for line in THEIRS[name].splitlines() if line.strip()]) for name in names) <= 10, names
    base = committed(shell, "base")
    kept = shell("bilevelbench gate theirs --baseline gate.json --update && python -m pytest -q tests")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert "4 passed" in kept.stdout
    assert followed(shell) == 2

    file = folder / "theirs" / "solvers.py"
    file.write_text(file.read_text().replace("        fx, _", "        o.dg_y(s.x, y)\n        fx, _"))
    committed(shell, "dearer")
    failed = shell("python -m pytest -q tests")
    assert failed.returncode == 1, failed.stdout
    assert "to accept: bilevelbench gate theirs --baseline gate.json --update --layer calls" in failed.stdout
    assert followed(shell) == 3
    (job,) = yaml.safe_load(THEIRS[".github/workflows/speed.yml"])["jobs"].values()
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "compare.yml").read_text())
    known = {"SOLVERS": job["with"]["solvers"], "PROBLEMS": "quadratic(d=3)", "BASE": base}
    (measured, shown) = [
        step["run"] for step in flow["jobs"]["compare"]["steps"] if "compare.md" in step.get("run", "")
    ]
    done = shell(measured, **known)
    assert done.returncode == 1, done.stdout + done.stderr
    assert shell(shown, GITHUB_STEP_SUMMARY=str(folder / "summary.md")).returncode == 0
    assert "calls +1 dg_y" in (folder / "summary.md").read_text()


@pytest.mark.docs(sibling="test_the_entry_point")
def test_a_stranger_s_ten_minutes(installed, tmp_path):
    """The commands of the page, in their order, but for those that install: from the wheel, in an empty folder."""
    text = (ROOT / "docs" / "first_figure.md").read_text()
    commands = [line.split(maxsplit=2)[2] for line in text.splitlines() if line.startswith("$ bilevelbench ")]
    assert [command.split()[0] for command in commands][2:] == ["check", "run", "figure", "tune", "run", "figure"]
    shutil.copy(ROOT / "docs" / "my_solver.py", tmp_path)
    for command in commands:
        words = ["-m", "bilevelbench", *shlex.split(command)]
        done = run(*words, cwd=tmp_path, path=installed, timeout=600)
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert all((tmp_path / name).read_bytes().startswith(b"%PDF") for name in ("mine.pdf", "tuned.pdf"))
    assert "alternating" in (tmp_path / "results" / "report" / "index.html").read_text()


def test_the_entry_point(installed, tmp_path):
    """The console command is declared, and it is the one that `python -m bilevelbench` is."""
    (metadata,) = installed.glob("*.dist-info/entry_points.txt")
    assert "bilevelbench = bilevelbench.cli:main" in metadata.read_text()
    done = run("-c", "from bilevelbench.cli import main; main()", "--version", cwd=tmp_path, path=installed)
    assert done.stdout.strip().endswith("0.1.0"), done.stdout + done.stderr


# -- the checkout


@pytest.mark.parametrize("folder", ["solvers", "problems"])
def test_folders_are_no_packages_of_their_own(folder, tmp_path):
    """At the top level of the checkout nobody imports a second copy of solvers or problems."""
    done = run("-c", f"import {folder}", cwd=tmp_path, path=ROOT)
    assert done.returncode == 1
    assert f"ImportError: import bilevelbench.{folder}, not {folder}" in done.stderr


HEAVY = {"torch", "numpy", "pandas", "scipy", "matplotlib", "seaborn", "sklearn"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_quick_answer_loads_nothing_heavy(option, tmp_path):
    """Without torch an answer takes a fraction of a second; CPU seconds, so that a busy machine is no failure."""
    code = (
        "import sys, time\n"
        "from bilevelbench.cli import main\n"
        "try:\n    main()\nfinally:\n    print('LOADED', *sys.modules)\n    print('SECONDS', time.process_time())\n"
    )
    done = run("-c", code, option, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, loaded, seconds = done.stdout.splitlines()
    assert "bilevelbench.cli" in loaded.split()
    assert not HEAVY & set(loaded.split())
    assert float(seconds.split()[1]) < 1


def test_help_names_the_commands(tmp_path):
    done = run("-m", "bilevelbench", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"run", "report", "list", "check"} <= set(done.stdout.split())
