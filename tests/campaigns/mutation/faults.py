"""Faults by cosmic-ray's operators: where they can be put, and a source with one of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cosmic_ray.ast
import cosmic_ray.plugins
import parso.tree

LEFT_OUT = (
    "annotations, which nothing evaluates (`from __future__ import annotations`)",
    "`strict=` of zip, which holds lengths equal that are equal in right code",
)


class Fault(NamedTuple):
    """A fault: file below the root, (line, column), operator, and which of its occurrences in the file."""

    file: str
    place: tuple[int, int]
    operator: str
    occurrence: int


def _left_out(node: parso.tree.NodeOrLeaf | None) -> bool:
    """Whether a node belongs to ``LEFT_OUT``."""
    while node is not None:
        parent = node.parent
        if parent is not None and parent.type in ("annassign", "tfpdef"):
            return parent.type == "tfpdef" or parent.children.index(node) == 1
        if parent is not None and parent.type == "funcdef" and node.get_previous_sibling() == "->":
            return True
        if node.type == "argument" and node.get_code().strip().startswith("strict="):
            return True
        node = parent
    return False


def places(source: str) -> Iterator[tuple[tuple[int, int], str, int]]:
    """Every fault that can be put into a source: (line and column, operator, which of its occurrences)."""
    nodes = list(cosmic_ray.ast.ast_nodes(cosmic_ray.ast.get_ast(source)))
    for name in cosmic_ray.plugins.operator_names():
        if name in ("core/VariableReplacer", "core/VariableInserter"):  # they want to be told a variable
            continue
        operator, count = cosmic_ray.plugins.get_operator(name)(), 0
        for node in nodes:
            for start, _end in operator.mutation_positions(node):
                if not _left_out(node):
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


def mutated(source: str, operator: str, occurrence: int) -> str:
    """The source with one fault."""
    return str(_Put(operator, occurrence)(cosmic_ray.ast.get_ast(source)).get_code())


def draw(root: Path, rooms: Sequence[str], count: int, seed: int) -> list[Fault]:
    """Faults at so many different places of the rooms, every place alike."""
    at: dict[tuple[str, tuple[int, int]], list[tuple[str, int]]] = {}
    for room in rooms:
        for file in sorted((root / "harness" / room).glob("*.py")):
            for place, name, occurrence in places(file.read_text()):
                at.setdefault((str(file.relative_to(root)), place), []).append((name, occurrence))
    rng = random.Random(seed)
    order, drawn = sorted(at), list[Fault]()
    rng.shuffle(order)
    for file, place in order:
        operator, occurrence = rng.choice(sorted(at[file, place]))
        try:
            compile(mutated((root / file).read_text(), operator, occurrence), file, "exec")
        except (SyntaxError, AttributeError):  # no fault can be put there
            continue
        drawn.append(Fault(file, place, operator, occurrence))
        if len(drawn) == count:
            break
    return drawn
