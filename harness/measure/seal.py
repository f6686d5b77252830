"""What is held against a run at every look, outside the clock: the books agree, and all is as the harness left it."""

from __future__ import annotations

from bilevelbench.core.meter import Meter, Tally, difference, less
from bilevelbench.core.oracle import Oracle

from . import hook
from .intact import Intact, Strays
from .marks import Foul


class Seal:
    """The checks of one run. Both methods raise ``Foul`` with a sentence that says what was found."""

    def __init__(self, oracle: Oracle, tally: Tally, meter: Meter | None, strays: Strays | None) -> None:
        self._tally, self._meter = tally, meter
        self.intact = Intact(oracle, strays)
        self._counts = tally.read()
        hook.noted()

    def look(self) -> None:
        """Right after steps."""
        if said := hook.noted():
            raise Foul(said)
        if said := self.intact.changed():
            raise Foul(f"the solver {said}")
        counts = self._tally.read()
        if any(n > counts.get(answer, 0) for answer, n in self._counts.items()):
            raise Foul("the oracle's counters were put back")
        if self._meter and (said := difference(self._tally, self._meter)):
            raise Foul(said)
        self._counts = counts

    def between(self) -> None:
        """Right before steps: nothing was asked since the last look."""
        if asked := less(self._tally.read(), self._counts):
            raise Foul(
                f"the oracle was asked ({', '.join(sorted({kind for kind, *_ in asked}))}) after a step was over"
            )
        if self._meter and (said := difference(self._tally, self._meter)):
            raise Foul(f"after a step was over, {said}")
