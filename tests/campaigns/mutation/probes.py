"""Which statements of a package a test runs, in its own process and in every process that it starts.

Each statement gets a probe in front of it as its module is imported: a byte of a file that all processes share is set.
A probe is no call, starts no thread and opens no file, so what watches solvers does not see it; lines keep their
numbers. ``tests.campaigns.mutants`` asks which tests a fault concerns.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "_mutants_bytes_"


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module in the order of their numbers."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))


class _Put(ast.NodeTransformer):
    def __init__(self, numbers: dict[int, int]) -> None:
        self._numbers = numbers

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(node, name, [each for stmt in block for each in self._with_probe(stmt)])
        return node

    def _with_probe(self, stmt: ast.stmt) -> list[ast.stmt]:
        if isinstance(stmt, ast.ImportFrom) and stmt.module == "__future__":
            return [stmt]
        if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant):  # a docstring
            return [stmt]
        (probe,) = ast.parse(f"{NAME}[{self._numbers[id(stmt)]}] = 1").body
        for node in ast.walk(probe):
            ast.copy_location(node, stmt)
        return [probe, stmt]


def probed(source: str, path: str, first: int) -> Any:
    """The code of a module with probes, numbered from ``first``."""
    tree = ast.parse(source)
    return compile(_Put({id(s): first + k for k, s in enumerate(statements(tree))}).visit(tree), path, "exec")


def firsts(folder: Path, rooms: list[str]) -> dict[str, int]:
    """The first number of each module's statements, by path below the folder."""
    found, count = {}, 0
    for room in rooms:
        for file in sorted((folder / room).glob("*.py")):
            found[f"{room}/{file.name}"] = count
            count += sum(1 for _ in statements(ast.parse(file.read_text())))
    return found


def install(bytes_: Path, folder: Path, numbers: dict[str, int]) -> mmap.mmap:
    """From now on modules of the folder are imported with probes, which set bytes of the shared file."""
    with bytes_.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    setattr(builtins, NAME, shared)
    plain = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        name = self.path.removeprefix(f"{folder}/")
        if name not in numbers:
            return plain(self, fullname)
        return probed(self.get_data(self.path).decode(), self.path, numbers[name])

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    return shared
