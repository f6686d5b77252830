"""Linters, types, layers, layout and links: what a reviewer should not have to look for."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tests.tree import HAS_GIT, MAPPED, ROOT, TOP, mapped, tracked

BIN = Path(sys.executable).parent
needs_git = pytest.mark.skipif(not HAS_GIT, reason="this is no git checkout")


def run(*command, cwd=ROOT, **env):
    """Run a tool of this environment; its output is the message of a failure."""
    tool = shutil.which(command[0], path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert tool, f"{command[0]} is not installed; `uv sync` installs it"
    return subprocess.run(
        [tool, *command[1:]], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def passes(*command, **options):
    done = run(*command, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


# -- tools


def test_ruff():
    passes("ruff", "check", "--no-cache", ".")


def test_format():
    passes("ruff", "format", "--check", "--diff", "--no-cache", ".")


def test_types(tmp_path):
    passes("mypy", MYPYPATH=str(mapped(tmp_path)))


def test_layers(tmp_path):
    passes("lint-imports", "--no-cache", PYTHONPATH=str(mapped(tmp_path)))


def test_a_tree_without_links_is_followed_by_a_copy(tmp_path):
    """git on Windows leaves small text files in the place of links."""
    for name in ("harness/core/oracle.py", "solvers/bome.py", "problems/quadratic.py", ".typings/bilevelbench/core"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("../../harness/core")
    found = mapped(tmp_path / "copy", tmp_path / "tree") / "bilevelbench"
    assert {path.relative_to(found).as_posix() for path in found.rglob("*.py")} == {
        "core/oracle.py", "solvers/bome.py", "problems/quadratic.py",
    }  # fmt: skip


# -- the layer contracts bite


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with its sub-packages in place, and the contracts."""
    folder = tmp_path_factory.mktemp("layers")
    for source, name in MAPPED.items():
        shutil.copytree(ROOT / source, folder / "bilevelbench" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_layers_of_the_copy(package):
    passes("lint-imports", "--no-cache", cwd=package, PYTHONPATH=str(package))


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/oracle.py", "import pandas", "kernel"),
        ("core/oracle.py", "from bilevelbench.measure import clock", "layers"),
        ("core/registry.py", "from ..store import schema", "layers"),
        ("solvers/bome.py", "from bilevelbench.problems import quadratic", "layers"),
        ("problems/quadratic.py", "from bilevelbench import solvers", "layers"),
        ("solvers/bome.py", "from bilevelbench.measure.clock import Stopwatch", "components"),
        ("solvers/bome.py", "from bilevelbench.store import journal", "components"),
        ("problems/quadratic.py", "from bilevelbench.report import page", "layers"),
        ("measure/trace.py", "from bilevelbench.solvers import bome", "layers"),
        ("measure/trace.py", "from bilevelbench.run import job", "layers"),
        ("measure/trace.py", "def late():\n    from bilevelbench.stats import targets", "run"),
        ("run/worker.py", "def late():\n    from bilevelbench.stats import targets", "run"),
        ("run/worker.py", "from bilevelbench.data import find", "run"),
        ("run/worker.py", "from bilevelbench.report import page", "layers"),
        ("data/find.py", "from bilevelbench.problems import quadratic", "layers"),
        ("data/find.py", "from bilevelbench.measure import judge", "components"),
        ("core/draw.py", "from bilevelbench.data import find", "layers"),
        ("solvers/bome.py", "from bilevelbench.data import find", "solvers"),
        ("stats/targets.py", "from bilevelbench.report import page", "layers"),
        ("store/frame.py", "from bilevelbench.stats import targets", "layers"),
        ("store/frame.py", "import torch", "laptop"),
        ("stats/targets.py", "from torch import Tensor", "laptop"),
        ("report/page.py", "from bilevelbench.core.door import total", "laptop"),
        ("report/page.py", "from bilevelbench.cli import main", "layers"),
        ("api/compare.py", "from bilevelbench.cli import main", "layers"),
        ("run/worker.py", "from bilevelbench.api import results", "layers"),
        ("newcomer.py", "", "layers"),
    ],
)
def test_a_violation_is_caught(package, module, line, contract):
    file = package / "bilevelbench" / module
    before = file.read_text() if file.exists() else None
    try:
        file.write_text(f"{before or ''}\n{line}\n")
        done = run("lint-imports", "--no-cache", "--contract", contract, cwd=package, PYTHONPATH=str(package))
    finally:
        file.write_text(before) if before is not None else file.unlink()
    assert done.returncode == 1, f"{module}: {line}\n{done.stdout}{done.stderr}"
    said = done.stdout + done.stderr
    assert f"bilevelbench.{module.removesuffix('.py').replace('/', '.')}" in said or module.removesuffix(".py") in said


def test_the_kernel_contract_names_every_dependency():
    """It is a list of what is forbidden; a new dependency must be on it, or be argued for here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    names = {re.split(r"[^\w-]", text)[0] for text in project["project"]["dependencies"]}
    names = {{"scikit-learn": "sklearn"}.get(name, name) for name in names}
    assert set(contracts["kernel"]["forbidden_modules"]) == names - {"torch", "numpy"}


# -- layout


@needs_git
def test_top_level():
    found = {Path(name).parts[0] for name in tracked()}
    assert {name for name in found if not name.startswith(".")} <= TOP


def drawn():
    """The folders in the README's drawing, each with its depth."""
    text = (ROOT / "README.md").read_text()
    lines = text.partition("## Layout\n\n")[2].partition("\n\n`harness/`")[0].splitlines()
    return [(len(match[1]), match[2]) for line in lines if (match := re.match(r"( +)(\w+)/ +\w", line))]


def test_the_drawing_is_the_tree():
    folders = {Path(name).parts[:-1] for name in tracked()}
    rooms = {parts[1] for parts in folders if len(parts) > 1 and parts[0] == "harness"}
    (top, *_), (inner, *_) = (sorted({depth for depth, _ in drawn()})[i:] for i in (0, 1))
    assert sorted(name for depth, name in drawn() if depth == inner) == sorted(rooms)
    ours = {parts[0] for parts in folders if parts and not parts[0].startswith(".")}
    assert sorted(name for depth, name in drawn() if depth == top) == sorted(ours)


def test_the_drawn_layers_are_those_of_the_contracts():
    """Every room of harness/ stands in CONTRIBUTING's list of layers, and nothing else does."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("downwards only:\n\n")[2].partition("\n\n")[0]
    named = set(re.findall(r"\w+", text)) - {"everything", "torch"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = [c["layers"] for c in project["tool"]["importlinter"]["contracts"] if c["id"] == "layers"]
    known = {name for layer in layers for name in layer.split(" | ")}
    assert named == known - {"__main__", "catalogue", "progress", "suites"}


@pytest.mark.skipif(not (ROOT / ".typings" / "bilevelbench" / "core").is_dir(), reason="there are no symbolic links")
def test_links_for_type_checkers():
    """.typings/bilevelbench mirrors the mapping: one relative link for each entry of harness/, solvers and problems."""
    links = ROOT / ".typings" / "bilevelbench"
    hidden = {"__pycache__", ".DS_Store"}
    wanted = {entry.name: f"../../harness/{entry.name}" for entry in (ROOT / "harness").iterdir()}
    wanted |= {"solvers": "../../solvers", "problems": "../../problems"}
    found = {link.name: os.readlink(link) for link in links.iterdir() if link.name not in hidden}
    assert found == {name: target for name, target in wanted.items() if name not in hidden}


@needs_git
def test_ignored_folders_are_ours():
    """reports/ keeps its README and the reference report in git; results and asv's files stay out."""
    ignored = "results/x.jsonl", "reports/asv/results/m/x.json", "reports/mine/index.html"
    kept = "reports/README.md", "reports/reference/index.html"
    done = run("git", "check-ignore", "--no-index", *ignored, *kept)
    assert done.stdout.split() == list(ignored)


# -- documents


def documents():
    return sorted(name for name in tracked() if name.endswith(".md"))


MADE = ("solvers/", "problems/", "gallery/", "generated/", "columns.md")  # what the documentation makes of the code


@pytest.mark.parametrize("name", documents())
def test_links(name):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if target and not (ROOT / name).parent.joinpath(target).exists()]
    if name.startswith("docs/"):  # a page whose build finds no target is an error there
        missing = [target for target in missing if not target.startswith(MADE)]
    assert not missing


def test_ci_calls_the_readme():
    """.ci/run is the README's test command, as written there, and no other installation."""
    commands = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
    tests = [command for command in commands if " pytest " in command]
    assert len(tests) == 1
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert lines.count(tests[0]) == 1
    assert not [
        line for line in lines if re.search(r"\b(pip|uv)\b", line) and line not in (tests[0],) and line[0] != "#"
    ]


def test_readme_commands_install_from_the_lock():
    """Both commands make their own installer, and neither moves a pinned version."""
    text = (ROOT / "README.md").read_text()
    commands = [line.strip() for line in text.splitlines() if line.startswith("    python3 -m pip install")]
    assert len(commands) == 2
    for command in commands:
        assert command.startswith("python3 -m pip install --quiet --upgrade --target .tools uv && .tools/bin/uv run ")
        assert "--frozen" in command.split()


# -- types follow the mapping: a mistake in a solver is seen


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_nothing_locked_has_to_be_compiled(minor):
    """A bare machine has no compiler: each package has a wheel, under each supported Python."""
    version = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0", "sys_platform": "linux"}
    linux = [
        *(f"manylinux_2_{glibc}_x86_64" for glibc in range(36, 4, -1)),
        "manylinux2014_x86_64",
        "manylinux1_x86_64",
    ]
    tags = {*cpython_tags((3, minor), platforms=linux), *compatible_tags((3, minor), f"cp3{minor}", linux)}

    def compiled(package):
        markers = package.get("resolution-markers", [])
        wheels = [wheel["url"].rsplit("/", 1)[-1] for wheel in package.get("wheels", [])]
        meant = not markers or any(Marker(text).evaluate(version) for text in markers)
        return meant and "sdist" in package and not any(tags & parse_wheel_filename(name)[3] for name in wheels)

    packages = [p for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if "registry" in p["source"]]
    assert [package["name"] for package in packages if compiled(package)] == []
    assert len(packages) > 100


def test_mypy_sees_the_mapped_packages(tmp_path):
    """mypy finds solvers and problems under bilevelbench, with their types (a missing one would be Any)."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "from bilevelbench.solvers.bome import BOME\n"
        "from bilevelbench.problems.quadratic import quadratic\n"
        "from bilevelbench import Draw\n"
        "reveal_type(BOME.step)\n"
        "reveal_type(quadratic(Draw(0)))\n"
        "Draw('zero')\n"
    )
    done = run("mypy", "--config-file", str(ROOT / "pyproject.toml"), str(probe), MYPYPATH=str(mapped(tmp_path)))
    assert "Oracle" in done.stdout, done.stdout + done.stderr
    assert re.search(r'Revealed type is "[\w.]*Problem"', done.stdout), done.stdout
    assert 'incompatible type "str"; expected "int"' in done.stdout, done.stdout
