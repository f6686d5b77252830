"""Whether the maker of a run is still alive, told without comparing two clocks.

Every driver on a results folder has a file ``.alive-{token}``: who it is, and a counter that a thread raises. A maker
is gone where its counter did not move while the looker's own counter and clock went on for a minute; or at once, where
the system they share says that the process is no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from . import files

BEAT = 5.0  # seconds between two beats
PATIENCE = 60.0  # seconds without one after which a maker is gone
MOST_BYTES = 4096  # of a heartbeat's file
PREFIX = ".alive-"


class Heartbeat:
    """A driver's own sign of life, and what it has seen of the others'."""

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder, self.beat, self.patience = folder, beat, patience
        self.token = secrets.token_hex(8)
        self.beats = 0
        self._seen: dict[str, tuple[bytes, float, int]] = {}
        self._handle = files.create(_path(folder, self.token))
        self._write()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and take the file away."""
        self._over.set()
        self._thread.join()
        os.close(self._handle)
        _path(self.folder, self.token).unlink(missing_ok=True)

    def gone(self, token: str) -> bool:
        """Whether the maker with this token is no more, as far as this looker has seen. Does not wait: ask again."""
        if token == self.token:
            return False
        found, now = _content(_path(self.folder, token)), time.monotonic()
        if _ended(found):
            return True
        last, since, beats = self._seen.get(token, (None, now, self.beats))
        if found != last:
            self._seen[token] = (found, now, self.beats)
            return False
        # Both: where the whole machine stood still, the clock may have gone on, and nobody could beat.
        return now - since >= self.patience and (self.beats - beats + 1) * self.beat >= self.patience

    def _go_on(self) -> None:
        while not self._over.wait(self.beat):
            self.beats += 1
            with contextlib.suppress(OSError):  # a folder that is away for a while; others will say how long
                self._write()

    def _write(self) -> None:
        said = {**_identity(os.getpid()), "node": platform.node()[:200], "counter": f"{self.beats:012d}"}
        text = json.dumps(said)  # always of one length
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text.encode())


def sweep(folder: Path) -> set[str]:
    """Take away the files of makers on this machine that are no more; their tokens."""
    found = set()
    for path in folder.glob(f"{PREFIX}*"):
        if _ended(_content(path)):
            path.unlink(missing_ok=True)
            found.add(path.name.removeprefix(PREFIX))
    return found


def ended(path: Path) -> bool:
    """Whether a file is that of a maker that ran on this system and is no more."""
    return _ended(_content(path))


def _path(folder: Path, token: str) -> Path:
    return folder / f"{PREFIX}{token}"


def _content(path: Path) -> bytes:
    try:
        return files.content(path, MOST_BYTES)[1]
    except files.Unreadable:
        return b""


def _ended(content: bytes) -> bool:
    """Whether the process of a heartbeat ran on this system and is no more."""
    try:
        theirs = json.loads(content)
        pid = theirs["pid"]
        if not isinstance(pid, int) or not theirs["boot"]:
            return False
        ours = _identity(pid)
        same = (ours["boot"], ours["namespace"]) == (theirs["boot"], theirs["namespace"])
        return same and ours["started"] != theirs["started"]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return False


def _identity(pid: int) -> dict[str, Any]:
    """Which process it is: this boot of the machine, the namespace of its numbers, its number and when it started.

    Linux only; elsewhere boot is empty, and only a counter that stands still tells that a maker is gone.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""
    return {"boot": boot, "namespace": namespace, "pid": pid, "started": _started(pid)}


def _started(pid: int) -> str:
    """The tick at which a process started; '' where there is none, or only what is left of one that ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else rest[18]
