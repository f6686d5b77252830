"""Other people's packages: a wheel of their own brings a solver and a problem; a broken one is a warning."""

import importlib.metadata
import json
import os
import subprocess
import sys
import types
import warnings
import zipfile

import pytest

from bilevelbench.core.errors import PluginWarning, RequestError
from bilevelbench.core.registry import Registry
from bilevelbench.core.spec import Spec
from bilevelbench.run.elsewhere import Elsewhere

pytestmark = pytest.mark.xdist_group("plugins")  # one process makes what the module's tests share


def pyproject(name, package, *kinds):
    """The pyproject.toml of a package whose module of each kind ("solvers", "problems") is an entry point."""
    points = "\n".join(
        f'[project.entry-points."bilevelbench.{kind}"]\n{package.removeprefix("bilevelbench_")} = "{package}.{kind}"\n'
        for kind in kinds
    )
    return f"""
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"
dependencies = ["bilevelbench"]

{points}
[tool.setuptools]
packages = ["{package}"]
"""


PACKAGE = {
    "pyproject.toml": pyproject("bilevelbench-extra", "bilevelbench_extra", "solvers", "problems"),
    "bilevelbench_extra/__init__.py": "",
    "bilevelbench_extra/shared.py": "PULL = 2.0\n",
    "bilevelbench_extra/solvers.py": """
from bilevelbench import Oracle, Point, solver


@solver("extra_descent")
class ExtraDescent:
    '''Descent on g in y and on f in x.'''

    lr: float = 1e-1

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        return Point(x - self.lr * o.df_x(x, y), y - self.lr * o.dg_y(x, y))
""",
    "bilevelbench_extra/problems.py": """
from bilevelbench import Draw, Problem, problem

from .shared import PULL


@problem("extra_pull", shows="nothing much")
def extra_pull(rng: Draw, d: int = 3) -> Problem:
    '''f = |y - 2|^2 + |x - 2|^2, g = |y - a x|^2.'''
    a = rng.put(rng.normal(d))

    def f(x, y):
        return (y - PULL) @ (y - PULL) + (x - PULL) @ (x - PULL)

    return Problem(f, lambda x, y: (y - a * x) @ (y - a * x), a, a, flags={"strongly_convex"})
""",
    "tests/test_extra.py": """
import bilevelbench as bb
from bilevelbench.run.send import Sender
from bilevelbench_extra.solvers import ExtraDescent


def test_our_solver_gets_nearer_on_our_problem():
    solution = bb.solve("extra_pull", "extra_descent", steps=20)
    assert solution.history["f"].iloc[-1] < solution.history["f"].iloc[0]


def test_an_object_of_ours_is_its_text():
    with Sender() as sender:
        assert sender.solver(ExtraDescent(lr=0.5)) == "extra_descent(lr=0.5)"
        assert not sender.sent, "another process finds it by its name"


def test_our_solver_on_theirs_and_theirs_on_ours():
    assert bb.solve("quadratic(d=2)", "extra_descent(lr=0.01)", steps=2).status == "done"
    assert bb.solve("extra_pull(d=2)", "bome", steps=2).status == "done"
""",
}


def built(folder, files):
    """The wheel of a package, built as its author would."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder / "dist"),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The package's source, its wheel unpacked as ``pip install --no-deps --target`` does, and what finds it there."""
    source, folder = tmp_path_factory.mktemp("extra"), tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built(source, PACKAGE)) as archive:
        archive.extractall(folder)
    return source, folder, os.environ | {"PYTHONPATH": str(folder)}


def test_a_package_s_own_tests_pass_with_its_wheel(site):
    source, _, env = site
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(source)]
    done = subprocess.run(
        [*command, str(source / "tests")], capture_output=True, text=True, env=env, cwd=source / "dist"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.process(sibling="test_a_package_s_own_tests_pass_with_its_wheel")
def test_a_command_runs_what_a_package_brings_and_warns_once_of_a_broken_one(site, tmp_path):
    _, folder, env = site
    broken = folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[bilevelbench.solvers]\nbroken = broken_plugin\n")
    (folder / "broken_plugin.py").write_text("raise SystemExit('it gave up')\n")
    command = [sys.executable, "-m", "bilevelbench", "run", "--steps", "3"]
    command += ["-p", "extra_pull", "-p", "quadratic", "-s", "extra_descent", "-s", "bome"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "results").glob("*.jsonl"))) == 4
    said = [line for line in done.stderr.splitlines() if "broken" in line]
    assert said == ["warning: " + sentence("broken_plugin", "broken", "SystemExit: it gave up")]
    (path,) = (tmp_path / "results").glob("extra_pull-extra_descent-*.jsonl")
    read = json.loads(path.read_text().splitlines()[-1])["manifest"]
    ours = {name for name in read if name.startswith(str(folder))}
    assert {str(folder / "bilevelbench_extra" / f"{name}.py") for name in ("solvers", "problems", "shared")} <= ours
    (folder / "bilevelbench_extra" / "shared.py").write_text("PULL = 3.0\n")
    again = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert "2 of them are finished already" in again.stdout, "an edited package's runs are made again"


def sentence(module, package, words):
    of = f" of the package {package}" if package else ""
    return f"the plug-in {module}{of} cannot be loaded ({words}); the rest works"


# -- a registry among plug-ins


@pytest.fixture
def registry(monkeypatch):
    """An empty registry and two entry points: one whose module exits as it is imported, and a good one."""
    registry = Registry("solver")
    registry._loaded = 1
    good = types.ModuleType("good_plugin")

    def load(self):
        if self.name == "bad":
            raise SystemExit(3)
        return good

    points = [importlib.metadata.EntryPoint(name, f"{name}_plugin", "bilevelbench.solvers") for name in ("bad", "good")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    return registry


def test_a_broken_plugin_is_one_warning_and_the_rest_is_there(registry):
    with pytest.warns(PluginWarning, match="bad_plugin") as said:
        names = [registry.names() for _ in range(2)]
    assert names == [[], []]
    assert [str(warning.message) for warning in said] == [sentence("bad_plugin", "", "SystemExit: 3")]


def test_a_name_that_may_have_been_in_a_broken_plugin_says_so(registry):
    with pytest.warns(PluginWarning), pytest.raises(RequestError, match="bad_plugin cannot be loaded"):
        registry.entry(Spec("theirs", {}))


def test_an_interrupt_while_a_plugin_is_loaded_is_an_interrupt(registry, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        registry.names()


class Said:
    """Stands for a task that has ended, and for what starts it."""

    status, close, kill = 0, staticmethod(lambda: None), staticmethod(lambda: None)

    def __init__(self, **said):
        self._said = said

    def start(self, call, argument):
        return self

    def heard(self):
        return [self._said]


def test_a_driver_warns_once_of_what_its_tasks_could_not_load():
    elsewhere = Elsewhere(Said(named=["bome", 1, "bome.py"], broken={"bad": "the plug-in bad is broken"}))
    with pytest.warns(PluginWarning, match="the plug-in bad is broken") as said:
        _ = [elsewhere("solver", name, 0) for name in ("bome", "itd")]
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Elsewhere(Said(named=["bome", 1, "bome.py"], broken={}))("solver", "bome", 0)
