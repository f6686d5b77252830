"""What is in a results folder, told from the ends of its files: fast, for a hundred thousand of them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import claims, files, heartbeat
from .ends import OURS, is_foreign
from .schema import CUT, FINAL

TAIL = 2**14  # bytes of a file's end in which its last row is sought first
_STATUS = re.compile(rb'"status":"([a-z]+)"')


@dataclass(frozen=True)
class Making:
    """A run under way: the stem of its key, the host that makes it, and for how many seconds, as its own sign of life
    says. ``gone``: its maker is no more, and the run will be made by another."""

    stem: str
    host: str
    seconds: float
    gone: bool


@dataclass(frozen=True)
class Status:
    """What there is of the runs of a folder. ``planned``: how many are to be there, None where no plan says so.

    ``statuses``: how many finished ones there are of each status; ``files``: the stems of those that failed, by status.
    """

    folder: Path
    planned: int | None
    left: int | None
    statuses: dict[str, int]
    failed: dict[str, list[str]] = field(default_factory=dict)
    making: list[Making] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """How many runs are finished, however they ended."""
        return sum(self.statuses.values())

    def __str__(self) -> str:
        """The same in a few lines."""
        counts = ", ".join(f"{n} {status}" for status, n in sorted(self.statuses.items(), key=lambda kind: -kind[1]))
        alive = [one for one in self.making if not one.gone]
        plan = f"; {self.left} of {self.planned} planned are left" if self.planned is not None else ""
        lines = [f"{self.folder}: {self.finished} finished ({counts or 'none'}), {len(alive)} under way{plan}"]
        lines += [
            f"  {one.stem}: {'its maker is gone' if one.gone else 'under way'}, on {one.host}, {one.seconds:.0f} s"
            for one in self.making
        ]
        lines += [f"  {stem}: {status}" for status, stems in sorted(self.failed.items()) for stem in stems[:MOST]]
        return "\n".join(lines)


MOST = 20  # failed runs of a status that are named


def status(folder: Path, planned: Collection[str] | None = None) -> Status:
    """What there is. ``planned``: digests of the keys of the runs that are to be there.

    ``files.Unreadable``, with a sentence, where a record is none of ours or of a schema that is not read.
    """
    counts: Counter[str] = Counter()
    failed: dict[str, list[str]] = {}
    there = files.finals(folder)
    for stem, paths in there.items():
        for path in paths:
            last, begin = _edges(path)
            if begin != OURS and (foreign := is_foreign(path)):
                raise files.Unreadable(foreign)
            counts[last] += 1
            if last != "done":
                failed.setdefault(last, []).append(stem)
    left = None if planned is None else len(set(planned) - {stem[-16:] for stem in there})
    return Status(folder, None if planned is None else len(planned), left, dict(counts), failed, _making(folder))


def last_status(path: Path) -> str:
    """The final status of a record; ``CUT`` where its end does not say one."""
    return _edges(path)[0]


def _edges(path: Path) -> tuple[str, bytes]:
    """The final status of a record, and how it begins."""
    begin = b""
    try:
        handle = os.open(path, os.O_RDONLY | files.NOFOLLOW)
    except OSError:
        return CUT, begin
    try:
        begin = os.read(handle, len(OURS))
        size = os.fstat(handle).st_size
        for start in dict.fromkeys((max(0, size - TAIL), 0)):
            os.lseek(handle, start, os.SEEK_SET)
            lines = os.read(handle, size - start).rstrip(b"\n").split(b"\n")
            rows = lines[:-1] if lines[-1].startswith(b'{"kind":"end"') else lines
            if rows and rows[-1].startswith(b'{"kind":"row"'):
                found = _STATUS.search(rows[-1])
                said = found[1].decode() if found else CUT
                return said if said in FINAL else CUT, begin
    except OSError:
        pass
    finally:
        os.close(handle)
    return CUT, begin


def _making(folder: Path) -> list[Making]:
    found = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(claims.PREFIX))
    for name in names:
        stem = name.removeprefix(claims.PREFIX).rpartition(".")[0]
        try:
            began = os.stat(folder / name).st_mtime
            token = files.content(folder / name, 256)[1].decode("ascii")
            life = folder / f"{heartbeat.PREFIX}{token}"
            said: dict[str, Any] = json.loads(files.content(life, heartbeat.MOST_BYTES)[1])
            seconds = os.stat(life).st_mtime - began  # both by the clock of whoever keeps the folder
            found.append(Making(stem, str(said.get("node", "?")), max(0.0, seconds), heartbeat.ended(life)))
        except (OSError, files.Unreadable, ValueError):
            found.append(Making(stem, "?", 0.0, True))
    return found
