"""What is held against a run at every look, outside the clock: the books agree, and all is as the harness left it."""

from __future__ import annotations

from collections.abc import Mapping

from bilevelbench.core.meter import Counts, Key, Meter, Tally, difference, less, parsed
from bilevelbench.core.oracle import Oracle

from . import hook
from .failure import Foul
from .intact import Intact

CHANGED = "changed code of the harness, and put it back"
MOVING = ("_step", "_drawn", "_now", "_arrived")  # what changes in an oracle


class Seal:
    """The checks of one run. Both methods raise ``Foul`` with a sentence that says what was found."""

    def __init__(self, oracle: Oracle, tally: Tally, meter: Meter | None, intact: Intact) -> None:
        self._oracle, self._tally, self._meter, self._intact = oracle, tally, meter, intact
        self._parts = dict(vars(oracle))
        self._counts = tally.read()
        hook.noted()  # what was refused to somebody else

    def look(self, untouched: bool, stopped: Mapping[Key, str] | None = None) -> None:
        """Right after steps. ``untouched``: what ``Intact`` says of the code, asked before anything else. ``stopped``:
        a shot of the counts where the clock stopped; what was asked since is on no clock."""
        if not untouched:
            raise Foul(f"the solver {self._intact.changed() or CHANGED}")
        if said := hook.noted():
            raise Foul(said)
        if said := self._intact.changed():
            raise Foul(f"the solver {said}")
        now = vars(self._oracle)
        if other := [k for k in {**self._parts, **now} if k not in MOVING and now.get(k) is not self._parts.get(k)]:
            raise Foul(f"the solver changed the oracle's {other[0]}")
        counts = self._tally.read()
        if any(n > counts.get(answer, 0) for answer, n in self._counts.items()):
            raise Foul("the oracle's counters were put back")
        if stopped is not None:
            _nothing(counts, parsed(stopped))
        if self._meter and (said := difference(self._tally, self._meter)):
            raise Foul(said)
        self._counts = counts

    def between(self) -> None:
        """Right before steps: nothing was asked since the last look."""
        _nothing(self._tally.read(), self._counts)
        if self._meter and (said := difference(self._tally, self._meter)):
            raise Foul(f"after a step was over, {said}")


def _nothing(now: Counts, stopped: Counts) -> None:
    """Refuses what was asked for since a step was over."""
    if asked := less(now, stopped):
        kinds = ", ".join(sorted({kind for kind, *_ in asked}))
        raise Foul(f"the oracle was asked for {kinds} after a step was over")
