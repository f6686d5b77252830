"""One process as its driver sees it: the phase that it is in, how long it may take, and what its end means.

A process that is killed from outside has not failed. What it raises, or crashes by, is charged to whoever's code was
running: the phase says whose that was.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .child import Task

OTHERS = 600.0  # seconds for whatever is not the solver's: importing, building, references, judging, the audit

# Whose code runs in a phase. What stands here under no name is the harness's own.
FAULTS = {
    "solver": "solver", "init": "solver", "warmup": "solver", "steps": "solver", "memory": "solver",
    "problem": "problem", "setup": "problem", "references": "problem", "guards": "problem", "prices": "problem",
    "judge": "problem",
}  # fmt: skip
WORDS = {
    "solver": "while the solver was imported", "problem": "while the problem was imported",
    "setup": "while the problem was built", "references": "while its reference lines were made",
    "guards": "while f and g were tried", "prices": "while its oracle answers were timed",
    "judge": "while it was judged", "init": "in the solver's init", "warmup": "in its first two steps",
    "memory": "while its memory was measured", "steps": "in its steps",
}  # fmt: skip
THROUGH = "through"  # the phase of a process that has done all it had to do
TIMED = ("init", "warmup", "steps", "memory")  # phases that the time limit of a run is for: the solver's own
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)  # a process does not die of
# these by what it computes


class End(NamedTuple):
    """What the end of a process means for its run, where the process could not say so itself."""

    status: str
    reason: str
    fault: str


class Watch:
    """Follows a task by what it says.

    ``limit``: seconds for the solver's own phases together, None for no limit. ``others``: for each of the other ones.
    """

    def __init__(
        self, task: Task, limit: float | None, hear: Callable[[dict[str, Any]], None], others: float = OTHERS
    ) -> None:
        self.task, self._limit, self._others, self._hear = task, limit, others, hear
        self.phase = ""
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._since = time.monotonic()
        self._late = ""
        self._memory = kills_for_memory()

    def listen(self) -> None:
        """Take in what the task has said."""
        for message in self.task.heard():
            if "phase" in message:
                now = time.monotonic()
                self._spent[self.phase] += now - self._since
                self.phase, self._since = str(message["phase"]), now
            else:
                self._hear(message)

    @property
    def deadline(self) -> float:
        """When, on the monotonic clock, the phase under way will have taken longer than it may."""
        if self._late:
            return float("inf")  # it is being killed
        if self.phase not in TIMED:
            return self._since + self._others - self._spent[self.phase]
        if self._limit is None:
            return float("inf")
        return self._since + self._limit - sum(self._spent[phase] for phase in TIMED)

    def end_late(self) -> None:
        """Kill the task if its phase has taken too long."""
        if not self._late and time.monotonic() >= self.deadline:
            limit = self._limit if self.phase in TIMED else self._others
            self._late = f"stopped after the time limit of {limit:g} s {WORDS.get(self.phase, '')}".rstrip()
            self.task.kill()

    def end(self) -> End | None:
        """What the end of the process means; None where it ended by itself, when it was through."""
        status, fault = self.task.status, FAULTS.get(self.phase, "harness")
        assert status is not None
        where = WORDS.get(self.phase, "")
        if self._late:
            return End("timeout", self._late, fault)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number not in OUTSIDE:
                return End("error", f"the process crashed with signal {number} {where}".rstrip(), fault)
            if kills_for_memory() > self._memory:
                return End("oom", f"the system killed the process for want of memory {where}".rstrip(), fault)
            return End("lost", f"the process was killed from outside, with signal {number}", "machine")
        code = os.waitstatus_to_exitcode(status)
        if code or self.phase != THROUGH:
            return End("error", f"the process ended with exit code {code} {where}".rstrip(), fault)
        return None


def kills_for_memory() -> int:
    """How many processes of this control group the system has killed for want of memory; 0 where it does not say."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return 0
    for number, controllers, path in groups:
        root, file = "/sys/fs/cgroup", "memory.events"
        if number != "0":
            if "memory" not in controllers.split(","):
                continue
            root, file = "/sys/fs/cgroup/memory", "memory.oom_control"
        for folder in (Path(root + path), Path(root)):
            try:
                found = dict(line.split() for line in (folder / file).read_text().splitlines())
                return int(found["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
    return 0
