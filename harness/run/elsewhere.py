"""What a text names, looked up by processes of their own: a driver imports nothing foreign, and does without torch."""

from __future__ import annotations

import functools
import os
import time
import warnings
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import PluginWarning, RequestError
from bilevelbench.core.spec import parse

from .child import ForkServer, Interpreters
from .job import Named, Sent
from .supervise import OUTSIDE

TRIES = 3  # of a process that is killed from outside
PATIENCE = 60.0  # seconds for looking up a name or trying to build a problem; what takes longer is left to its run


class Elsewhere:
    """Looks names up in processes of their own. ``environment``: what those processes run on.

    ``sent``: definitions of what some texts name.
    """

    def __init__(self, processes: ForkServer | Interpreters, patience: float = PATIENCE, sent: Sent = ()) -> None:
        self._sent = sent
        self._processes, self._patience = processes, min(patience, PATIENCE)
        self._warned: set[str] = set()
        self._known: dict[tuple[str, str], Named] = {}
        self.device = "cpu"  # the one that the machine is described by

    def solvers(self) -> list[str]:
        """The names of all solvers, those of other packages included."""
        return list(self._run("describe_solvers", None).get("solvers", []))

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """What the machine is."""
        said = self._run("describe_machine", self.device)
        if "environment" not in said:
            raise RequestError(f"what this machine is could not be asked: the process was killed, {TRIES} times")
        return dict(said["environment"])

    def place(self) -> str:
        """Of this machine, see ``store.files.place``."""
        return str(self.environment["place"])

    def __call__(self, kind: str, text: str, seed: int) -> Named:
        """What a text names.

        Where its file crashes or hangs, or builds for too long, the run is to say so: it is named as it was given.
        """
        if (kind, text) not in self._known:
            self._known[kind, text] = self._look_up(kind, text, seed)
        return self._known[kind, text]

    def _look_up(self, kind: str, text: str, seed: int) -> Named:
        spec = parse(text)  # refused at once
        named = self._run("describe", (kind, text, seed, self._sent)).get("named")
        if named:
            return Named(named[0], named[1], Path(named[2]))
        paths = [path for sort, name, path in self._sent if (sort, name) == (kind, spec.name) and not spec.file]
        return Named(str(spec._replace(file=Path(spec.file).name)), 0, Path(*paths or [spec.file or "."]))

    def _run(self, call: str, argument: Any) -> dict[str, Any]:
        """Everything that a process said. A request that it refused is refused here.

        A process that was killed from outside, or with its server, is started again: what it would have said is in the
        key of a run, and no accident may change that.
        """
        for _ in range(TRIES):
            said, killed = self._once(call, argument)
            if not killed:
                break
        for module, sentence in said.get("broken", {}).items():
            if module not in self._warned:
                self._warned.add(module)
                warnings.warn(sentence, PluginWarning, stacklevel=2)
        if "refused" in said:
            raise RequestError(said["refused"])
        return said

    def _once(self, call: str, argument: Any) -> tuple[dict[str, Any], bool]:
        """Everything that one process said, and whether it was killed, by others than us.

        Its time runs from its first word: before that the server, which imports nothing foreign, may have to start.
        """
        task, said = self._processes.start(f"bilevelbench.run.names:{call}", argument), dict[str, Any]()
        end, late = float("inf"), False
        while task.status is None:
            self._processes.wait(min(60.0, max(0.1, end - time.monotonic())))
            for message in task.heard():
                said |= message
                end = min(end, time.monotonic() + self._patience)
            if time.monotonic() >= end:
                late = True
                task.kill()
        for message in task.heard():
            said |= message
        task.close()
        return said, not late and os.WIFSIGNALED(task.status) and os.WTERMSIG(task.status) in OUTSIDE
