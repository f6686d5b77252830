"""What every process that makes runs has in common: its phase, its machine, and the row of a run that cannot begin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import psutil

from bilevelbench.measure.clock import self_check
from bilevelbench.measure.env import environment, moment
from bilevelbench.measure.failure import broken
from bilevelbench.store.files import place
from bilevelbench.store.schema import Row

from .job import Order
from .supervise import FAULTS

Tell = Callable[..., None]  # keywords: what to say to the driver


def silent(**_: Any) -> None:
    """Says nothing: there is no driver."""


class Stage:
    """The phase under way, told to the driver as it begins."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self.name = tell, ""

    def __call__(self, name: str) -> None:
        """A phase begins."""
        self.name = name
        self._tell(phase=name)


def keep_to_memory() -> None:
    """An allocation beyond what is there fails in this process instead of making the machine swap (Linux)."""
    if sys.platform == "linux":
        import resource

        room = psutil.virtual_memory().available
        resource.setrlimit(resource.RLIMIT_DATA, (room, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def machine(order: Order, device: str) -> dict[str, Any]:
    """What the machine is, as the driver had it measured, and what this moment is like."""
    if order.environment:
        return order.environment | moment()
    found = environment(device)
    return found | {"clock": self_check(device), "place": place(found)}


def refused(error: BaseException, stage: str) -> Row:
    """The only row of a run that could not begin: whoever's code ran in that stage is at fault."""
    return broken(error, FAULTS.get(stage, "harness"))


def timeless(row: Row) -> Row:
    """The row without seconds, which are nobody's."""
    row.seconds = row.cpu_seconds = row.judge_seconds = row.overhead_seconds = row.compile_seconds = None
    return row
