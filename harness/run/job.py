"""A run to be made, and how its key is spelled out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import resolve
from bilevelbench.core.spec import Spec
from bilevelbench.store.schema import RunKey


@dataclass(frozen=True)
class Job:
    """A run to be made: its key, how its problem and solver were asked for, and where its file goes."""

    key: RunKey
    problem: str
    solver: str
    path: Path
    suite: str = ""
    command: str = ""
    timeout: float | None = None


def full_spec(text: str, kind: str) -> tuple[Spec, int, Path]:
    """The spec with every knob spelled out, the version and the source file of what a text names.

    Of a loose file the spec keeps the name alone: the key holds its content (as a digest), not its place.
    """
    entry, spec = resolve(SOLVERS if kind == "solver" else PROBLEMS, text)
    return spec._replace(file=Path(spec.file).name), entry.version, entry.file
