"""Which statements each test runs and what it costs: a map for each file of tests, made again where one has changed."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import forks, probes

START = """\
import importlib.util, json, os, pathlib
spec = importlib.util.spec_from_file_location("_mutants_probes", {probes!r})
probes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(probes)
probes.install(pathlib.Path({shared!r}), pathlib.Path({site!r}), json.loads({numbers!r}))
"""


class Watcher:
    """A plugin of pytest: which statements each test comes by, what it takes, and whether it passes.

    Of a fixture that tests share each gets the statements; its seconds are kept apart, whoever asks first pays them.
    """

    def __init__(self, work: Path, site: Path, numbers: dict[str, int]) -> None:
        self._out, self._bytes = work / "found.json", probes.install(work / "shared.bin", site, numbers)
        self._imported: list[int] | None = None
        self._fixtures: dict[str, tuple[float, list[int]]] = {}
        self._tests: dict[str, tuple[float, list[int], list[str]]] = {}
        self._failed: set[str] = set()
        self._begun: set[str] = set()

    def _taken(self) -> list[int]:
        """The statements run since the last look."""
        found = bytes(self._bytes)
        self._bytes[:] = bytes(len(found))
        return [k for k, byte in enumerate(found) if byte]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before, begin = self._taken(), _cpu()
        try:
            return (yield)
        finally:
            self._fixtures[fixturedef.argname] = _cpu() - begin, self._taken()
            for k in before:
                self._bytes[k] = 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        taken, begin, known = self._taken(), _cpu(), set(self._fixtures)
        self._imported = taken if self._imported is None else self._imported
        made = yield
        shared = [name for name in getattr(item, "fixturenames", ()) if name in self._fixtures]
        own = _cpu() - begin - sum(self._fixtures[name][0] for name in set(self._fixtures) - known)
        self._tests[item.nodeid] = max(0.0, own), self._taken(), shared
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        if report.skipped:
            self._begun.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        tests = {
            test: [round(seconds, 3), sorted({*hits, *(k for name in shared for k in self._fixtures[name][1])}), shared]
            for test, (seconds, hits, shared) in self._tests.items() if test not in self._begun
        }  # fmt: skip
        fixtures = {name: round(seconds, 3) for name, (seconds, _) in self._fixtures.items()}
        found = {"tests": tests, "fixtures": fixtures, "imported": self._imported or [], "failed": sorted(self._failed)}
        self._out.write_text(json.dumps(found))


def _cpu() -> float:
    return sum(os.times()[:4])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def survey(root: Path, work: Path, site: Path, rooms: Sequence[str], files: Sequence[str], kept: Path) -> None:
    """Make the maps that are missing or old; what another process is making is left to it."""
    kept.mkdir(exist_ok=True, parents=True)
    numbers = probes.firsts(site, list(rooms))
    (work / "shared.bin").write_bytes(bytes(20_000))
    sources = {name: _digest(site / name) for name in numbers}
    modules = sorted(numbers, key=numbers.__getitem__)
    begins = [numbers[name] for name in modules] + [10**9]
    for file in files:
        out, claim = kept / f"{Path(file).stem}.json", kept / f"{Path(file).stem}.claim"
        if out.exists():
            was = json.loads(out.read_text())["sources"]
            if all(sources.get(name, _digest(root / name)) == digest for name, digest in was.items()):
                continue
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            continue
        (work / "found.json").unlink(missing_ok=True)
        start = site.parent / "sitecustomize.py"
        start.write_text(START.format(probes=str(Path(probes.__file__)), shared=str(work / "shared.bin"),
                                      site=str(site), numbers=json.dumps(numbers)))  # fmt: skip
        code, spent = forks.in_a_fork(root, work, [*forks.QUIET, file], 1200, lambda: Watcher(work, site, numbers))
        start.unlink()
        if not (work / "found.json").exists():
            raise RuntimeError(f"{file}: {code}: {(work / 'out.txt').read_text()[-2000:]}")
        found = json.loads((work / "found.json").read_text())
        if found["failed"]:  # those that find who looks, and those that fail in the copy
            forks.in_a_fork(root, work, [*forks.QUIET, *found["failed"]], 1200)
            said = (work / "out.txt").read_text().splitlines()
            bad = {line.split(" ")[1] for line in said if line.startswith(("FAILED ", "ERROR "))}
            found["bad"] = sorted(bad)
            found["tests"] = {test: each for test, each in found["tests"].items() if test not in bad}
        seen = {k for _, hits, _ in found["tests"].values() for k in hits}
        named = [
            name for name, a, b in zip(modules, begins[:-1], begins[1:], strict=True) if any(a <= k < b for k in seen)
        ]
        found["tests"] = {
            test: [seconds, _by_module(hits, modules, begins), shared]
            for test, (seconds, hits, shared) in found["tests"].items()
        }
        found["imported"] = _by_module(found["imported"], modules, begins)
        found["sources"] = {file: _digest(root / file)} | {name: sources[name] for name in named}
        out.write_text(json.dumps(found))
        claim.unlink()
        print(f"{file}: {spent:.0f} CPU s, {len(found['tests'])} tests, watched in vain: {len(found['failed'])}, "
              f"failing: {found.get('bad', [])}", file=sys.stderr, flush=True)  # fmt: skip


def _by_module(hits: list[int], modules: list[str], begins: list[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    at = 0
    for k in hits:
        while k >= begins[at + 1]:
            at += 1
        found.setdefault(modules[at], []).append(k - begins[at])
    return found


class Asked(NamedTuple):
    """The tests for one fault, and what they are expected to take."""

    tests: list[str]
    seconds: float


class Map:
    """All maps of a folder."""

    def __init__(self, site: Path, kept: Path, files: Sequence[str]) -> None:
        self._site = site
        self._seconds: dict[str, float] = {}
        self._shared: dict[str, list[str]] = {}
        self._fixtures: dict[str, float] = {}
        self._hits: dict[str, dict[str, set[int]]] = {}  # by module and test
        self._direct: dict[str, set[str]] = {}  # files of tests that import a module by its name
        self.bad: list[str] = []
        for file in files:
            path = kept / f"{Path(file).stem}.json"
            found = json.loads(path.read_text())
            self.bad += found.get("bad", [])
            self._fixtures |= {f"{file}::{name}": seconds for name, seconds in found["fixtures"].items()}
            for test, (seconds, hits, shared) in found["tests"].items():
                self._seconds[test] = seconds
                self._shared[test] = [f"{file}::{name}" for name in shared]
                for module, numbers in hits.items():
                    self._hits.setdefault(module, {})[test] = set(numbers)
            for test in sorted(found["tests"], key=lambda test: found["tests"][test][0])[:1]:
                for module, numbers in found["imported"].items():  # whichever runs, the import fails
                    self._hits.setdefault(module, {}).setdefault(test, set()).update(numbers)
            for module in _imports((site.parent.parent / file).read_text()):
                self._direct.setdefault(module, set()).add(file)

    def asked(self, module: str, line: int, most: float) -> Asked:
        """The tests that come by a line, those of its own module and the quickest first, for so many CPU seconds."""
        numbers = concerned((self._site / module).read_text(), line)
        hits = self._hits.get(module, {})
        by = [test for test, found in hits.items() if found & numbers]
        direct = self._direct.get(module, set())
        picked, spent, begun = list[str](), 0.0, set[str]()
        left = set(by)

        def cost(test: str) -> float:
            file = test.partition("::")[0]
            new = sum(self._fixtures[name] for name in self._shared[test] if name not in begun)
            return self._seconds[test] + new + (0.0 if file in begun else 0.5)

        while left:
            test = min(left, key=lambda t: (cost(t) * (1 if t.partition("::")[0] in direct else 4), t))
            if picked and spent + cost(test) > most:
                break
            spent += cost(test)
            begun |= {test.partition("::")[0], *self._shared[test]}
            picked.append(test)
            left.discard(test)
        return Asked(picked, spent)


def _imports(source: str) -> set[str]:
    """The modules of the package that a file of tests imports, as paths below it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bilevelbench"):
            path = str(node.module).partition(".")[2].replace(".", "/")
            found |= {f"{path}.py", *(f"{path}/{alias.name}.py" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {f"{a.name.partition('.')[2].replace('.', '/')}.py" for a in node.names}
    return found


def concerned(source: str, line: int) -> set[int]:
    """The numbers of the statements by which a test must come to notice what is changed in a line.

    The innermost one that the line is in; where that runs only as the module is imported (a signature, a constant), the
    statements of the function whose signature it is, or of those functions that name the constant, or of all.
    """
    tree = ast.parse(source)
    number = {id(stmt): k for k, stmt in enumerate(probes.statements(tree))}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    within = [stmt for stmt in probes.statements(tree) if _begin(stmt) <= line <= (stmt.end_lineno or stmt.lineno)]
    inner = max(within, key=lambda stmt: (stmt.lineno, -(stmt.end_lineno or 0)), default=None)

    def of(nodes: Sequence[ast.AST]) -> set[int]:
        """The numbers of the statements within."""
        return {number[id(stmt)] for node in nodes for stmt in probes.statements(node) if stmt is not node}

    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and of([inner]):
        return of([inner])
    if inner is not None and any(inner is stmt for function in functions for stmt in ast.walk(function)):
        return {number[id(inner)]}
    names = _made(inner) if inner is not None else set()
    naming: list[ast.AST] = [function for function in functions if names & _named(function)]
    own: list[ast.AST] = [inner] if isinstance(inner, ast.ClassDef) else []
    return of([*naming, *own]) or of(list[ast.AST](functions)) or set(number.values())


def _begin(stmt: ast.stmt) -> int:
    return min([stmt.lineno, *(decorator.lineno for decorator in getattr(stmt, "decorator_list", []))])


def _made(stmt: ast.stmt) -> set[str]:
    """The names that a statement of a module or class makes."""
    if isinstance(stmt, ast.ClassDef):
        return {stmt.name}
    return {node.id for node in ast.walk(stmt) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _named(function: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
