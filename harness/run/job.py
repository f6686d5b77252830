"""A run to be made, and how its key is spelled out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import resolve
from bilevelbench.core.spec import Spec
from bilevelbench.measure.manifest import changed
from bilevelbench.store.journal import Record, final, read
from bilevelbench.store.schema import CUT, RunKey

Identity = tuple[str, int, int]  # of a file as it was: its path, its inode, when it was written in ns


@dataclass(frozen=True)
class Job:
    """A run to be made: its key, how its problem and solver were asked for, and where its file goes.

    path: the file that is written while the run is made. here: the place (see ``store.schema.place``) whose results
    alone count, or "" for those of any machine. outdated: a finished file that this run replaces.
    """

    key: RunKey
    problem: str
    solver: str
    path: Path
    suite: str = ""
    command: str = ""
    timeout: float | None = None
    here: str = ""
    outdated: Identity | None = None

    @property
    def final(self) -> Path | None:
        """The file of this run, made by this command or by any other; None where there is none."""
        return final(self.path.parent, self.key, self.here or None)

    def record(self) -> Record:
        """What there is of this run."""
        return read(self.final or self.path)

    def satisfied(self) -> bool:
        """Whether this run need not be made: its file is there, and it is not the one that is to be replaced."""
        path = self.final
        return path is not None and identity(path) != self.outdated

    def stands(self) -> bool:
        """Whether a finished run stands: with code and data as they are now it would be the same.

        A run that was unsupported or lost is tried again (data may have come), and so is one that ran out of time when
        it is now given more of it.
        """
        record = self.record()
        if record.header is None or record.status in (CUT, "unsupported", "lost"):
            return False
        earlier = record.header.get("timeout")
        more = earlier is not None and (self.timeout is None or self.timeout > earlier)
        if record.status == "timeout" and more:
            return False
        return not changed((record.end or {}).get("manifest") or {})

    def discard_outdated(self) -> None:
        """Remove the finished file that this run replaces, if it still is the one that was seen."""
        path = self.final
        if path is not None and identity(path) == self.outdated:
            path.unlink(missing_ok=True)


def identity(path: Path) -> Identity:
    """Tells a file from whatever takes its place."""
    found = path.stat(follow_symlinks=False)
    return str(path), found.st_ino, found.st_mtime_ns


@dataclass(frozen=True)
class Order:
    """What a process is asked to do: runs to be made, or (``window``) a part of one to be made again.

    environment: what the machine is, measured once. prices: those of this problem, where another process has measured
    them. states: the file for the states from which a window can be made again.
    """

    jobs: list[Job]
    environment: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, list[float]] | None = None
    states: Path | None = None
    window: int | None = None


def full_spec(text: str, kind: str) -> tuple[Spec, int, Path]:
    """The spec with every knob spelled out, the version and the source file of what a text names.

    Of a loose file the spec keeps the name alone: the key holds its content (as a digest), not its place.
    """
    entry, spec = resolve(SOLVERS if kind == "solver" else PROBLEMS, text)
    return spec._replace(file=Path(spec.file).name), entry.version, entry.file
