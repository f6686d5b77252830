"""Small random faults put into the measuring code, one at a time: how many do the fast tests find?

    uv run --with cosmic-ray --with coverage python -m tests.campaigns.mutants 400 [SEED] [--log FILE]

Draws places of ``measure``, ``run``, ``store`` and ``stats`` and a fault for each (cosmic-ray's operators: another
comparison, sign, number, constant; a decorator or a loop left out), writes it into a copy of the tree and runs the
tests that come by that line, the quickest first, until one fails; where none does in its own process, those of
``ELSEWHERE``. Which tests come by is measured once, in the copy without a fault: what fails then is not run. The share
found is a lower bound: at most ``MOST`` CPU seconds of tests are run for a fault, and none of the slower tiers.
``--log`` keeps a line for each fault; those that it holds are not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cosmic_ray.ast
import cosmic_ray.plugins
import parso.tree
import pytest
from scipy.stats import binomtest

SIBLING = "test_the_contract_catches_what_breaks_it"

ROOT = Path(__file__).parents[2]
PARTS = ("harness", "solvers", "problems", "tests", "reports", "pyproject.toml", ".typings", "README.md", ".ci")
ROOMS = ("measure", "run", "store", "stats")
NAMES = ("stats", "comparable", "labels", "store", "claims", "reader", "manifest", "measuring", "steps", "guards",
         "sealed", "audit", "suites", "tune", "run", "engines", "processes", "faults", "report",
         "bad_solvers")  # fmt: skip
# Tests of what runs in other processes, by module; those of a room where a module has none of its own.
ELSEWHERE = {"manifest": ("manifest",), "provenance": ("manifest",), "stamps": ("manifest",), "measure": ("faults",),
             "run": ("processes", "faults"), "store": ("claims", "faults"), "stats": ("stats",)}  # fmt: skip
MOST = 60.0  # CPU seconds of tests for one fault
QUIET = ("-q", "-p", "no:cacheprovider")
LIMIT = 150.0  # seconds for one fault; whoever is not through by then hangs
# What every test needs and no mutant touches: imported once, and then forked.
HEAVY = ("torch", "numpy", "pandas", "scipy.stats", "seaborn", "hypothesis", "sklearn.linear_model", "pytest",
         "torch._subclasses.fake_tensor", "torch.func", "coverage")  # fmt: skip


def _typing(node: parso.tree.NodeOrLeaf | None) -> bool:
    """Whether a node is part of an annotation, which nothing evaluates."""
    while node is not None:
        parent = node.parent
        if parent is not None and parent.type in ("annassign", "tfpdef"):
            return parent.type == "tfpdef" or parent.children.index(node) == 1
        if parent is not None and parent.type == "funcdef" and node.get_previous_sibling() == "->":
            return True
        node = parent
    return False


def places(source: str) -> Iterator[tuple[tuple[int, int], str, int]]:
    """Every fault that can be put into a source: (line and column, operator, which of its occurrences)."""
    tree = cosmic_ray.ast.get_ast(source)
    nodes = list(cosmic_ray.ast.ast_nodes(tree))
    for name in cosmic_ray.plugins.operator_names():
        if name in ("core/VariableReplacer", "core/VariableInserter"):  # they want to be told a variable
            continue
        operator, count = cosmic_ray.plugins.get_operator(name)(), 0
        for node in nodes:
            for start, _end in operator.mutation_positions(node):
                if not _typing(node):
                    yield start, name, count
                count += 1


class _Put:
    """Walks a tree up to an occurrence and puts the fault there."""

    def __init__(self, name: str, occurrence: int) -> None:
        self._operator, self._left = cosmic_ray.plugins.get_operator(name)(), occurrence

    def __call__(self, node: parso.tree.NodeOrLeaf) -> parso.tree.NodeOrLeaf | None:
        for index, _ in enumerate(self._operator.mutation_positions(node)):
            if self._left == 0:
                node = self._operator.mutate(node, index)
            self._left -= 1
            if self._left < 0:
                return node
        if isinstance(node, parso.tree.BaseNode):
            children = [self(child) if self._left >= 0 else child for child in node.children]
            node.children = [child for child in children if child is not None]
        return node


def mutated(source: str, name: str, occurrence: int) -> str:
    """The source with one fault."""
    return str(_Put(name, occurrence)(cosmic_ray.ast.get_ast(source)).get_code())


def draw(count: int, seed: int) -> list[tuple[str, tuple[int, int], str, int]]:
    """Faults at so many different places, every place alike: (file, place, operator, occurrence)."""
    at: dict[tuple[str, tuple[int, int]], list[tuple[str, int]]] = {}
    for room in ROOMS:
        for file in sorted((ROOT / "harness" / room).glob("*.py")):
            for place, name, occurrence in places(file.read_text()):
                at.setdefault((str(file.relative_to(ROOT)), place), []).append((name, occurrence))
    rng = random.Random(seed)
    order, drawn = sorted(at), []
    rng.shuffle(order)
    for file, place in order:
        name, occurrence = rng.choice(sorted(at[file, place]))
        try:
            compile(mutated((ROOT / file).read_text(), name, occurrence), file, "exec")
        except (SyntaxError, AttributeError):  # no fault can be put there
            continue
        drawn.append((file, place, name, occurrence))
        if len(drawn) == count:
            break
    return drawn


class Watcher:
    """A plugin of pytest: which lines each test comes by, what it takes, and whether it passes."""

    def __init__(self, work: Path) -> None:
        import coverage

        self._work, self._found, self._failed = work, dict[str, float](), set[str]()
        rooms = [str(work / "site" / "bilevelbench" / room / "*") for room in ROOMS]
        self._coverage = coverage.Coverage(data_file=None, include=rooms)
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        begin = sum(os.times()[:4])
        made = yield
        self._coverage.switch_context("")
        self._found[item.nodeid] = sum(os.times()[:4]) - begin
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data, lines = self._coverage.get_data(), dict[str, Any]()
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file)
            name = f"harness/{Path(file).resolve().relative_to(self._work / 'site' / 'bilevelbench')}"
            lines[name] = {line: sorted(filter(None, tests)) for line, tests in by_line.items()}
        seconds = {test: found for test, found in self._found.items() if test not in self._failed}
        found = {"seconds": seconds, "lines": lines, "failed": sorted(self._failed)}
        (self._work / "map.json").write_text(json.dumps(found))


def in_a_fork(work: Path, arguments: list[str], limit: float = LIMIT, watch: bool = False) -> tuple[int | None, float]:
    """pytest's exit code in a fork of this process, None where it hangs; and its seconds."""
    begin, process = time.monotonic(), os.fork()
    if process == 0:
        os.setsid()
        os.chdir(work)
        out = os.open(work / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.path[:] = [str(work), str(work / "site"), *(p for p in sys.path if p not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "bilevelbench")]:
            del sys.modules[name]
        sys.argv = ["pytest", *arguments]
        code = 3
        try:
            code = int(pytest.main(arguments, plugins=[Watcher(work)] if watch else []))
        finally:
            os._exit(code)
    status = None
    while status is None and time.monotonic() < begin + limit:
        ended, found = os.waitpid(process, os.WNOHANG)
        status = found if ended else None
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
        return None, time.monotonic() - begin
    return os.waitstatus_to_exitcode(status), time.monotonic() - begin


def survey(work: Path) -> dict[str, Any]:
    """Which tests come by which line in the copy as it is, and which cannot be watched: they find who looks."""
    files = [f"tests/test_{name}.py" for name in NAMES]
    code, _ = in_a_fork(work, [*QUIET, *files], limit=7200, watch=True)
    assert code in (0, 1), (work / "out.txt").read_text()[-2000:]
    found: dict[str, Any] = json.loads((work / "map.json").read_text())
    return found | unwatched(work, found["failed"])


def unwatched(work: Path, tests: list[str]) -> dict[str, Any]:
    """Of the tests that failed while they were watched, those that pass otherwise, and those that do not."""
    in_a_fork(work, [*QUIET, *tests], limit=3600)
    said = (work / "out.txt").read_text().splitlines()
    failed = {line.split(" ")[1] for line in said if line.startswith(("FAILED ", "ERROR "))}
    return {"failed": sorted(failed), "unwatched": [test for test in tests if test not in failed]}


def chosen(known: dict[str, Any], file: str, line: int) -> list[str]:
    """The tests that are asked about a fault, the quickest first.

    Of tests that share a fixture one alone was seen to pay for it: the slowest of a module is reckoned with its first.
    """
    seconds: dict[str, float] = known["seconds"]
    slowest: dict[str, float] = {}
    for test, found in seconds.items():
        module = test.partition("::")[0]
        slowest[module] = max(found, slowest.get(module, 0.0))
    by = [test for test in known["lines"].get(file, {}).get(str(line), []) if test in seconds]
    if not by:
        room, stem = file.split("/")[1], Path(file).stem
        beside = tuple(f"tests/test_{name}." for name in ELSEWHERE.get(stem, ELSEWHERE[room]))
        by = [test for test in seconds if test.startswith(beside)]
    if file.startswith("harness/measure"):
        by = by + known["unwatched"]
    picked, spent, begun = list[str](), 0.0, set[str]()
    for test in sorted(by, key=lambda test: (slowest[test.partition("::")[0]], seconds.get(test, 0.5))):
        module = test.partition("::")[0]
        spent += seconds.get(test, 0.5) + (0.0 if module in begun else slowest[module])
        begun.add(module)
        if spent > MOST and picked:
            break
        picked.append(test)
    return picked


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--log", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--map", type=Path, default=Path("mutants-map.json"), help="which tests come by which line")
    given = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    for name in HEAVY:
        importlib.import_module(name)
    known = [json.loads(line) for line in given.log.read_text().splitlines()] if given.log.exists() else []
    made = {(line["file"], tuple(line["place"]), line["operator"]) for line in known}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        work = Path(folder).resolve()
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, work / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / part).exists():
                shutil.copy(ROOT / part, work / part)
        site = work / "site" / "bilevelbench"  # as the package is installed
        shutil.copytree(work / "harness", site)
        for name in ("solvers", "problems"):
            shutil.copytree(work / name, site / name)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(site.parent), str(work)])
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # of two mutants within a second the older would be loaded
        if not given.map.exists():
            given.map.write_text(json.dumps(survey(work)))
        tests = json.loads(given.map.read_text())
        print(f"failing in the copy, and not run: {tests['failed']}", file=sys.stderr, flush=True)
        for k, (file, place, operator, occurrence) in enumerate(draw(given.count, given.seed)):
            if (file, place, operator) in made:
                continue
            source, copies = (ROOT / file).read_text(), (work / file, site / Path(file).relative_to("harness"))
            changed = mutated(source, operator, occurrence)
            for copy in copies:
                copy.write_text(changed)
            asked = chosen(tests, file, place[0])
            code, seconds = in_a_fork(work, ["-x", *QUIET, *asked])
            for copy in copies:
                copy.write_text(source)
            diff = [
                line for line in difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
                if line[:1] in "+-" and line[:3] not in ("+++", "---")
            ]  # fmt: skip
            line = {"file": file, "place": place, "operator": operator, "found": code != 0, "code": code,
                    "tests": len(asked), "seconds": round(seconds, 1), "diff": diff}  # fmt: skip
            known.append(line)
            with given.log.open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(f"[{k + 1}] {file}:{place[0]} {'found' if line['found'] else 'SURVIVED'} {seconds:.0f} s", flush=True)
    found = sum(line["found"] for line in known)
    low, high = binomtest(found, len(known)).proportion_ci(method="wilson")
    for line in known:
        if not line["found"]:
            print(line["file"], line["place"][0], *line["diff"], sep="\n  ")
    print(f"{found} of {len(known)} found: {found / len(known):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
