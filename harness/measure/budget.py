"""When a run ends, and when it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Limits of a run: outer steps, seconds of solver time, oracle calls. None is no limit; at least one is set.

    Steps are never exceeded. Calls are not exceeded after the first step, which shows what a step costs.
    Seconds are read at looks only (a reading drains the device), so the last stretch may end a little late.
    What the solver's ``init`` took counts, and is no part of what a step costs: ``init`` is its (seconds, calls).
    """

    steps: int | None = None
    seconds: float | None = None
    calls: int | None = None

    def spent(self, step: int, seconds: float, calls: int, init: tuple[float, int] = (0.0, 0)) -> str:
        """The name of the limit that leaves no room for another step, or ''."""
        if self.steps is not None and step >= self.steps:
            return "steps"
        if self.seconds is not None and seconds >= self.seconds:
            return "seconds"
        if self.calls is not None:
            of_a_step = math.ceil((calls - init[1]) / step) if step else 1
            if (step or init[1]) and calls + of_a_step > self.calls:
                return "calls"
        return ""

    def room(self, step: int, seconds: float, calls: int, init: tuple[float, int] = (0.0, 0)) -> int:
        """How many further steps fit, judged by the steps so far; at least 1."""
        if step == 0:
            return 1
        room = [2**62]
        if self.steps is not None:
            room.append(self.steps - step)
        if self.calls is not None and calls > init[1]:
            room.append((self.calls - calls) * step // (calls - init[1]))
        if self.seconds is not None and seconds > init[0]:
            room.append(int((self.seconds - seconds) * step / (seconds - init[0])))
        return max(1, min(room))


def looks(ratio: float = 1.3) -> Iterator[int]:
    """The steps at which a run is looked at: 1, 2, 3, 4, 6, 8, 11, ..., a geometric schedule."""
    step = 0
    while True:
        step = max(step + 1, round(step * ratio))
        yield step
