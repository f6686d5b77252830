"""Two versions side by side: a process each, asked in turns, so that a busy machine slows both alike."""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.measure import side
from bilevelbench.measure.provenance import cache_root

from .revisions import Version

PATIENCE = 600.0  # seconds without an answer: importing torch takes minutes on a machine that is overrun


class Lost(Exception):
    """A process that ended, or did not answer: which one, and how."""


class Process:
    """The process of one version."""

    def __init__(self, version: Version, threads: int = 1) -> None:
        self.version = version
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        path = [*version.paths, *filter(None, [os.environ.get("PYTHONPATH", "")])]
        env = os.environ | dict.fromkeys(names, str(threads)) | {"PYTHONPATH": os.pathsep.join(path)}
        env["PYTHONPYCACHEPREFIX"] = str(cache_root() / "compiled")  # nothing is left in folders that are not ours
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by ``close``)
        self._child = subprocess.Popen(
            [version.python, "-P", side.__file__], cwd=version.folder, env=env, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout
        for line in self._child.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, ask: str, **request: Any) -> Any:
        """Its answer to one question: see ``answer``."""
        self.say(ask, **request)
        return self.answer()

    def say(self, ask: str, **request: Any) -> None:
        """Ask, and do not wait."""
        assert self._child.stdin
        with suppress(OSError):  # of one that has ended, ``answer`` tells
            self._child.stdin.write(json.dumps({"ask": ask, **request}) + "\n")
            self._child.stdin.flush()

    def answer(self) -> Any:
        """The next answer. ``Unsupported`` or ``RequestError`` as they were raised there; ``Lost`` where none comes."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            self.close()
            raise Lost(f"{self.version.label}: its process did not answer in {PATIENCE:g} s") from None
        if not line:
            words = self._last_words()
            self.close()
            raise Lost(f"{self.version.label}: its process ended{words}")
        found = json.loads(line)
        if "found" in found:
            return found["found"]
        if found["error"] == "Unsupported":
            raise Unsupported(found["words"])
        known = "" if found["error"] == "RequestError" else f"{found['error']}: "
        raise RequestError(f"{self.version.label}: {known}{found['words']}")

    def _last_words(self) -> str:
        self._child.wait(10)
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        return f": {said}" if said else ""

    def stay_on(self, core: int) -> None:
        """Keep to one core, where the system lets it."""
        with suppress(AttributeError, OSError, psutil.Error):
            psutil.Process(self._child.pid).cpu_affinity([core])

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._errors):
            if stream:
                with suppress(OSError):  # what was still to be written to one that has ended
                    stream.close()


class Pair:
    """A process of each version, made together: one launch. Memory lies otherwise in the next.

    Both of one thread keep to the same core: on two, with other neighbours, equal code was 18 % apart for minutes.
    """

    def __init__(self, base: Version, head: Version, threads: int = 1, core: int = 0) -> None:
        self.base, self.head = Process(base, threads), Process(head, threads)
        self._sizes: dict[str, int] = {}
        try:
            self.about: tuple[dict[str, Any], dict[str, Any]] = self.both("about")
        except BaseException:  # nobody has a pair to close
            self.__exit__()
            raise
        if threads == 1:  # not before: torch is imported by both at the same time
            cores = cores_here()
            for one in (self.base, self.head):
                one.stay_on(cores[core % len(cores)])

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error: object) -> None:
        self.base.close()
        self.head.close()

    def both(self, ask: str, **request: Any) -> tuple[Any, Any]:
        """The answers of both to one question, base first; they work on it at the same time."""
        self.base.say(ask, **request)
        self.head.say(ask, **request)
        try:
            one = self.base.answer()
        finally:  # one that refuses does not leave the other's answer behind
            other = self.head.answer()
        return one, other

    def open(self, cell: str, problem: str, solvers: tuple[str, str], device: str) -> None:
        """Make a solver on a problem known to both sides, and choose how many steps are a block."""
        for one, solver in zip((self.base, self.head), solvers, strict=True):
            one.ask("open", cell=cell, problem=problem, solver=solver, device=device)
        self._sizes[cell] = min(one.ask("block", cell=cell) for one in (self.base, self.head))

    def log_ratio(self, cell: str) -> float:
        """The logarithm of head's seconds over base's: blocks in the order base, head, head, base, which cancels what
        grows evenly in between."""
        count, seconds = self._sizes[cell], [0.0, 0.0]
        order: list[tuple[int, Callable[..., Any]]] = [(0, self.base.ask), (1, self.head.ask)]
        for which, ask in (*order, *reversed(order)):
            seconds[which] += ask("steps", cell=cell, count=count)
        return math.log(max(seconds[1], 1e-9) / max(seconds[0], 1e-9))


def cores_here() -> list[int]:
    """The cores that this process may use; none are known on some systems."""
    with suppress(AttributeError, OSError, psutil.Error):
        return list(psutil.Process().cpu_affinity() or [0])
    return [0]


def within(path: str, folder: Path) -> bool:
    """Whether a file lies in a folder, by their real paths or as they are written."""
    return Path(path).is_relative_to(folder) or Path(path).resolve().is_relative_to(folder.resolve())
