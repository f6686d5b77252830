"""Cores of this host, each for one timed run at a time, whoever starts the runs.

A core is a file that is locked for as long as its run is made; the system lets go of it when the holder is gone,
however it went. Only Linux can bind a run to the cores that it holds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil

FOLDER = "BILEVELBENCH_CORES"  # where the files are; one folder for all on a host


class Cores:
    """The cores that this process may use. A context manager; leaving it lets go of all."""

    def __init__(self) -> None:
        self._folder = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / "bilevelbench-cores")
        self._held: dict[int, int] = {}
        self.known = hasattr(os, "sched_getaffinity")
        psutil.cpu_percent(percpu=True)  # the next question is answered for the time since

    def __enter__(self) -> Cores:
        return self

    def __exit__(self, *_: object) -> None:
        self.release([*self._held])

    def take(self, n: int) -> list[int]:
        """``n`` cores that nobody else holds, idle ones first; none where there are not so many."""
        if not self.known:
            return []
        busy = dict(enumerate(psutil.cpu_percent(percpu=True)))
        taken: list[int] = []
        for core in sorted(os.sched_getaffinity(0), key=lambda core: (busy.get(core, 0.0), core)):
            if len(taken) < n and self._lock(core):
                taken.append(core)
        if len(taken) == n:
            return sorted(taken)
        self.release(taken)
        return []

    def release(self, cores: list[int]) -> None:
        """Let go of cores."""
        for core in cores:
            os.close(self._held.pop(core))

    def _lock(self, core: int) -> bool:
        import fcntl  # there is none on Windows

        if core in self._held:
            return False
        try:
            self._folder.mkdir(exist_ok=True)
            handle = os.open(self._folder / str(core), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._held[core] = handle
        return True


def bind(cores: list[int] | None) -> None:
    """Keep this process and its threads to come to cores, where it was given some."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
