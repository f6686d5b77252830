"""A run to be made, and how its key is spelled out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.measure.changed import Files
from bilevelbench.store import points
from bilevelbench.store.files import final_name, finals_of, mark
from bilevelbench.store.journal import Record, read
from bilevelbench.store.schema import CUT, RunKey


def known_device(device: str) -> None:
    """Raise a ``RequestError`` where there is no kind of device of this name."""
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise RequestError(f"there is no device {device!r}; choose from cpu, cuda")


@dataclass(frozen=True)
class Named:
    """What a text names: its spec with every knob spelled out, its version, and the file that it is in."""

    spec: str
    version: int
    file: Path


Sent = tuple[tuple[str, str, str], ...]  # (kind, name, path) of definitions, see ``run.send``


@dataclass(frozen=True)
class Job:
    """A run to be made: its key, how its problem and solver were asked for, and where its file goes.

    path: the file that is written while the run is made. place: of this machine (see ``store.files.place``); with
    ``here`` its results alone count, else those of any. sent: definitions that the process needs (see ``run.send``).
    keep: of x and y, what is stored of the last state (see ``store.points``).
    outdated: the mark of a finished file that this run replaces. tuned: see ``store.schema.Header``.
    """

    key: RunKey
    problem: str
    solver: str
    path: Path
    suite: str = ""
    command: str = ""
    timeout: float | None = None
    place: str = ""
    here: bool = False
    sent: Sent = ()
    keep: tuple[str, ...] = ()
    outdated: tuple[int, ...] = ()
    tuned: bool | str = False

    @property
    def words(self) -> str:
        """The run, for a person."""
        return f"{self.problem} {self.solver} seed {self.key.seed}"

    @property
    def name(self) -> str:
        """What the finished file is called."""
        return final_name(self.key, self.place)

    def finished(self, there: dict[str, list[Path]] | None = None) -> list[Path]:
        """The finished files of this run, that of this machine first. ``there``: what ``finals`` has found."""
        folder, stem = self.path.parent, self.key.stem
        found = finals_of(folder, stem) if there is None else there.get(stem, [])
        if self.here:
            return [path for path in found if path.name == self.name]
        return sorted(found, key=lambda path: path.name != self.name) if len(found) > 1 else found

    def published(self, there: dict[str, list[Path]] | None = None) -> Path:
        """Where the record of this run is, or would be. ``there``: what ``finals`` has found."""
        return next(iter(self.finished(there)), self.path)

    def record(self, there: dict[str, list[Path]] | None = None) -> Record:
        """What there is of this run. ``there``: what ``finals`` has found."""
        return read(self.published(there))

    def satisfied(self) -> bool:
        """Whether this run need not be made: its file is there, and it is not the one that is to be replaced."""
        return any(mark(path) != self.outdated for path in self.finished())

    def replaced(self) -> Record | None:
        """The finished file that this run replaces, if it is still there as it was seen."""
        records = [read(path) for path in self.finished() if path.name == self.name]
        return next((record for record in records if record.mark == self.outdated), None)

    def stands(self, record: Record, now: Files | None = None) -> bool:
        """Whether a finished run stands: with code and data as they are now it would be the same.

        ``now``: where the same is asked of many runs.

        A run that was unsupported or lost is tried again (data may have come), and so is one that ran out of time when
        it is now given more of it.
        """
        if self.key.engine == "in_process":  # nobody has seen what it read
            return False
        if record.header is None or record.status in (CUT, "unsupported", "lost"):
            return False
        earlier = record.header.get("timeout")
        more = earlier is not None and (self.timeout is None or self.timeout > earlier)
        if record.status == "timeout" and more:
            return False
        if self.keep and record.status == "done" and not set(self.keep) <= points.names(points.beside(record.path)):
            return False
        elsewhere = record.header.get("environment", {}).get("place") != self.place
        return not (now or Files()).changed(record.end.get("manifest", {}), elsewhere)


@dataclass(frozen=True)
class Order:
    """What a process is asked to do: runs to be made, or (``window``) a part of one to be made again.

    environment: what the machine is, measured once. prices: those of this problem, where another process has measured
    them. states: the folder for the states from which a window can be made again; they are those of the job in place
    ``audited``.
    """

    jobs: list[Job]
    environment: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, list[float]] | None = None
    states: Path | None = None
    audited: int = 0
    window: tuple[int, int] | None = None
