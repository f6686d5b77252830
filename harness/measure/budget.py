"""When a run ends, and when it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Used(NamedTuple):
    """What a run has used: seconds of solver time, oracle calls, rows of data behind these."""

    seconds: float = 0.0
    calls: int = 0
    rows: int = 0


NOTHING = Used()


@dataclass(frozen=True)
class Budget:
    """Limits of a run: outer steps, seconds of solver time, oracle calls, rows. None is no limit; at least one is set.

    Steps are never exceeded. Calls and rows are not exceeded after the first step, which shows what a step costs.
    Seconds are read at looks only (a reading drains the device), so the last stretch may end a little late.
    What the solver's ``init`` took counts, and is no part of what a step costs: ``init`` is what it has used.
    """

    steps: int | None = None
    seconds: float | None = None
    calls: int | None = None
    rows: int | None = None

    def _counted(self, used: Used, init: Used) -> list[tuple[str, int, int, int]]:
        """The limits on what is counted: (name, limit, used, by init)."""
        limits = [("calls", self.calls, used.calls, init.calls), ("rows", self.rows, used.rows, init.rows)]
        return [(name, limit, now, then) for name, limit, now, then in limits if limit is not None]

    def spent(self, step: int, used: Used, init: Used = NOTHING) -> str:
        """The name of the limit that leaves no room for another step, or ''."""
        if self.steps is not None and step >= self.steps:
            return "steps"
        if self.seconds is not None and used.seconds >= self.seconds:
            return "seconds"
        for name, limit, now, then in self._counted(used, init):
            of_a_step = math.ceil((now - then) / step) if step else 1
            if (step or then) and now + of_a_step > limit:
                return name
        return ""

    def room(self, step: int, used: Used, init: Used = NOTHING) -> int:
        """How many further steps fit, judged by the steps so far; at least 1."""
        if step == 0:
            return 1
        room = [2**62]
        if self.steps is not None:
            room.append(self.steps - step)
        room += [
            (limit - now) * step // (now - then) for _, limit, now, then in self._counted(used, init) if now > then
        ]
        if self.seconds is not None and used.seconds > init.seconds:
            room.append(int((self.seconds - used.seconds) * step / (used.seconds - init.seconds)))
        return max(1, min(room))


def looks(ratio: float = 1.3) -> Iterator[int]:
    """The steps at which a run is looked at: 1, 2, 3, 4, 5, 6, 8, 10, 13, ..., a geometric schedule."""
    step = 0
    while True:
        step = max(step + 1, round(step * ratio))
        yield step
