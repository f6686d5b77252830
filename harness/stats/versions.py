"""What two versions of a solver are to each other: as fast or not, on the same path or another, at which cost.

The one interval of a ratio is the wider of two: the confidence sequence of its blocks' median (``sequence``), and the
mean of the launches' medians, whose spread between processes of equal code is at least ``SPREAD``. Every verdict on
speed follows from it: slower where it lies above ``MARGIN``, faster below its inverse, as fast within ``EQUAL``.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import norm

from .sequence import Interval, median

MARGIN = 1.05  # less is not worth a word
EQUAL = 1.10  # within this, either way, two versions are as fast
SPREAD = 0.025  # standard deviation of log ratios between launches of equal code: measured, two cores, load 2 to 4
LEAST, MOST = 3, 12  # launches, before which nothing is said and after which no more are made
ROUNDING = 1e-9  # relative difference of iterates that is none of algorithm
MORE_BYTES = 1.1
MORE_POWER = 0.3  # of the exponent of bytes

SLOWER, FASTER, EVEN, OPEN = "slower", "faster", "as fast", "not decided"
BIT, ROUNDED, OTHER = "to the bit", "to rounding", "another path"


@dataclass
class Cell:
    """A solver on a problem in two versions. ``launches``: log ratios of seconds, head over base, a list a launch.

    base, head: what is exact (``measure.side.Cell.exact``). trouble: why it could not be measured; then whether it is
    head's fault alone says ``broken``.
    """

    solver: str
    problem: str
    base: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    launches: list[list[float]] = field(default_factory=list)
    trouble: str = ""
    broken: bool = False

    @property
    def name(self) -> str:
        """Solver and problem."""
        return f"{self.solver} on {self.problem}"

    def interval(self, alpha: float) -> Interval:
        """The ratio of seconds, head over base, and its bounds, right at all times together but for alpha.

        Half of alpha is the blocks', half the launches', a share of it for each time that they are looked at.
        """
        logs = median([ratio for launch in self.launches for ratio in launch], alpha / 2)
        if len(self.launches) < 2:
            return Interval(math.exp(logs.median), 0.0, math.inf)
        middles = [statistics.median(launch) for launch in self.launches]
        wide = norm.isf(alpha / 4 / MOST) * max(SPREAD, statistics.stdev(middles)) / math.sqrt(len(middles))
        mean = statistics.mean(middles)
        low, high = min(logs.low, mean - wide), max(logs.high, mean + wide)
        return Interval(*(math.exp(min(value, 700.0)) for value in (logs.median, low, high)))

    def speed(self, alpha: float) -> str:
        """One of SLOWER, FASTER, EVEN, OPEN."""
        found = self.interval(alpha)
        if len(self.launches) < LEAST:
            return OPEN
        if found.low > MARGIN or found.high < 1 / MARGIN:
            return SLOWER if found.low > MARGIN else FASTER
        return EVEN if found.high < EQUAL and found.low > 1 / EQUAL else OPEN

    @property
    def path(self) -> str:
        """Whether both versions make the same iterates: one of BIT, ROUNDED, OTHER."""
        if self.base["digests"] == self.head["digests"]:
            return BIT
        pairs = list(zip(self.base["points"], self.head["points"], strict=True))
        return ROUNDED if pairs and all(_near(one, other) for one, other in pairs) else OTHER

    @property
    def costs(self) -> list[str]:
        """What a step asks and holds more or less than before, in words; what costs more comes with a '+'."""
        words = []
        for kind in ("calls", "passes"):
            changed = difference(self.base[kind], self.head[kind], self.base["steps"])
            words += [f"{kind} {changed}"] if changed else []
        old, new = self.base.get("bytes"), self.head.get("bytes")
        if old and new and old != new:
            words.append(f"bytes {new / old:.2f}x")
        before, after = (one.get("exponent", math.nan) for one in (self.base, self.head))
        if abs(after - before) > 0.05:
            words.append(f"n^{after:.1f} for n^{before:.1f}")
        return words

    @property
    def dearer(self) -> bool:
        """Whether a step asks more, or holds more than a little more."""
        more = any(sum(self.head[kind].values()) > sum(self.base[kind].values()) for kind in ("calls", "passes"))
        old, new = self.base.get("bytes") or 0, self.head.get("bytes") or 0
        power = self.head.get("exponent", math.nan) - self.base.get("exponent", math.nan)
        return more or new > MORE_BYTES * old > 0 or power > MORE_POWER

    def worse(self, alpha: float) -> bool:
        """Whether head is slower, dearer, or cannot be measured where base could."""
        return self.broken or (not self.trouble and (self.dearer or self.speed(alpha) == SLOWER))

    def verdict(self, alpha: float) -> str:
        """One sentence without its stop."""
        if self.trouble:
            return self.trouble
        kind = "another algorithm" if self.path == OTHER else "same path"
        found, speed = self.interval(alpha), self.speed(alpha)
        words = [kind, f"{speed} by {found.median:.2f}" if speed == SLOWER else
                 f"{speed} by {1 / found.median:.2f}" if speed == FASTER else speed]  # fmt: skip
        return ", ".join([*words, *(word for word in self.costs)])


def _near(one: list[float], other: list[float]) -> bool:
    if not one or len(one) != len(other):
        return False
    size = max(1e-300, max(map(abs, one)))
    return all(abs(a - b) <= ROUNDING * size or (a != a and b != b) for a, b in zip(one, other, strict=True))


def difference(base: dict[str, float], head: dict[str, float], per: float = 1) -> str:
    """What counts by name have more and less of, such as '+1 dg_y, -2 df'; '' where they are equal."""
    names = sorted({*base, *head})
    changes = {name: (head.get(name, 0) - base.get(name, 0)) / per for name in names}
    return ", ".join(f"{change:+g} {name}" for name, change in changes.items() if change)
