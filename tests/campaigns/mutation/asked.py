"""Which tests are asked about a fault: those that come by the statements that it concerns."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import probes


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

    def _running(self, module: str, numbers: set[int]) -> set[str]:
        """The tests that run one of these statements."""
        return {test for test, found in self._hits.get(module, {}).items() if found & numbers}

    def asked(self, module: str, line: int, most: float) -> Asked:
        """The tests that come by a line, those of its own module and the quickest first, for so many CPU seconds."""
        source = (self._site / module).read_text()
        by = self._running(module, concerned(source, line))
        direct = set(self._direct.get(module, set()))
        if names := made_at_import(source, line):  # constants and classes that other modules use, too
            for other in self._hits:
                there = ast.parse((self._site / other).read_text())
                if other != module and names & _named(there):
                    by |= self._running(other, of_functions(there))
                    direct |= self._direct.get(other, set())
        picked, spent, begun = list[str](), 0.0, set[str]()
        left = by

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
    inner, functions = innermost(tree, line), _functions(tree)
    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and (found := _within(tree, [inner])):
        return found
    if inner is not None and any(inner is stmt for function in functions for stmt in ast.walk(function)):
        return {k for k, stmt in enumerate(probes.statements(tree)) if stmt is inner}
    names = _made(inner) if inner is not None else set()
    naming: list[ast.AST] = [function for function in functions if names & _named(function)]
    own: list[ast.AST] = [inner] if isinstance(inner, ast.ClassDef) else []
    every = {k for k, _ in enumerate(probes.statements(tree))}
    return _within(tree, [*naming, *own]) or of_functions(tree) or every


def made_at_import(source: str, line: int) -> set[str]:
    """The names that the statement of a line makes, where it is a module's or a class's own and no function's."""
    tree = ast.parse(source)
    inner = innermost(tree, line)
    if inner is None or any(inner is stmt for function in _functions(tree) for stmt in ast.walk(function)):
        return set()
    return _made(inner)


def innermost(tree: ast.AST, line: int) -> ast.stmt | None:
    """The innermost statement that a line is in."""
    within = [stmt for stmt in probes.statements(tree) if _begin(stmt) <= line <= (stmt.end_lineno or stmt.lineno)]
    return max(within, key=lambda stmt: (stmt.lineno, -(stmt.end_lineno or 0)), default=None)


def of_functions(tree: ast.AST) -> set[int]:
    """The numbers of the statements in functions."""
    return _within(tree, _functions(tree))


def _functions(tree: ast.AST) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _within(tree: ast.AST, nodes: Sequence[ast.AST]) -> set[int]:
    number = {id(stmt): k for k, stmt in enumerate(probes.statements(tree))}
    return {number[id(stmt)] for node in nodes for stmt in probes.statements(node) if stmt is not node}


def _begin(stmt: ast.stmt) -> int:
    return min([stmt.lineno, *(decorator.lineno for decorator in getattr(stmt, "decorator_list", []))])


def _made(stmt: ast.stmt) -> set[str]:
    """The names that a statement of a module or class makes."""
    if isinstance(stmt, ast.ClassDef):
        return {stmt.name}
    return {node.id for node in ast.walk(stmt) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _named(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
