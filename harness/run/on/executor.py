"""Who has runs made: texts in, answers out. Here, by processes of this machine; ``dask`` has them made by a cluster.

This module imports neither torch nor anything that does: a Dask worker imports it to reach its children.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Answer = dict[str, Any]  # record (and points), refused, or lost: see ``maker``


class Executor(Protocol):
    """Has runs made that are known by a key and a text (``text.text_of``). What is lost is for the caller to repeat."""

    @property
    def room(self) -> int:
        """How many more runs it wants now."""

    def start(self, key: str, text: str) -> None:
        """Have a run made."""

    def ended(self, seconds: float) -> Iterator[tuple[str, Answer]]:
        """The runs that have ended since, with what came of each; waits at most so long for one."""

    def close(self) -> None:
        """Give up what is under way."""


class Child:
    """A run-maker (``maker``) as whoever started it sees it. A plain process: daemons may have one, too."""

    def __init__(self, patience: float) -> None:
        command = [sys.executable, "-m", "bilevelbench.run.on.maker", str(patience)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def ask(self, text: str) -> Answer:
        """What came of a run; ``lost`` where the process died of it, and ``gone`` besides."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line, pieces = text.encode() + b"\n", list[bytes]()
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
            while not pieces or (pieces[-1] and not pieces[-1].endswith(b"\n")):
                pieces.append(self._process.stdout.read(1 << 20) or b"")
        said = b"".join(pieces)
        if said.endswith(b"\n"):
            return dict(json.loads(said))
        return {"lost": f"the process that made it ended with {self.end()}", "gone": True}

    def end(self) -> int:
        """End it, and what it is making. Its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


# Of this process. A child is kept, for torch takes seconds to be imported; it leaves when this process is gone.
_children: set[Child] = set()
_idle: list[Child] = []


def make(text: str, patience: float = 600.0) -> Answer:
    """Have a run made by a child of this process, of which there are as many as threads that call this at a time."""
    try:
        child = _idle.pop()
    except IndexError:
        child = Child(patience)
        _children.add(child)
    answer = child.ask(text)
    (_children.discard if answer.pop("gone", False) else _idle.append)(child)
    return answer


class Children:
    """This machine: so many children at a time."""

    def __init__(self, workers: int, patience: float = 600.0) -> None:
        self._threads, self._patience, self._free = ThreadPoolExecutor(workers), patience, workers
        self._answers: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()

    @property
    def room(self) -> int:
        """How many more runs it wants now."""
        return self._free

    def start(self, key: str, text: str) -> None:
        """Have a run made."""
        self._free -= 1
        self._threads.submit(lambda: self._answers.put((key, make(text, self._patience))))

    def ended(self, seconds: float) -> Iterator[tuple[str, Answer]]:
        """The runs that have ended since; waits at most so long for one."""
        with contextlib.suppress(queue.Empty):
            yield self._take(seconds)
            while True:
                yield self._take(0.0)

    def _take(self, seconds: float) -> tuple[str, Answer]:
        found = self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait()
        self._free += 1
        return found

    def close(self) -> None:
        """Give up what is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        _idle.clear()
        for child in list(_children):
            child.end()
        _children.clear()
