"""The configurations of one solver on one problem: a lattice, one geometric grid for each knob that is tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from bilevelbench.core.spec import parse

FARTHEST = 60  # steps of a grid from its start
Point = tuple[int | None, ...]  # for each axis which value, None where the knob is left as it is by default


class Grid(NamedTuple):
    """The values of a knob: start * ratio^k. low: the least; whole: rounded; unset: none of them is, too."""

    name: str
    start: float
    ratio: float
    whole: bool = False
    low: float = 0.0
    unset: bool = False

    def value(self, k: int) -> float | int:
        """The k-th value, in three digits."""
        value = self.start * self.ratio**k
        return max(int(self.low), round(value)) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True)
class Lattice:
    """All configurations of ``solver``, a text. The first axis is the step, by which a configuration has neighbours.

    Without axes there is one configuration, the solver with what is ``fixed``.
    """

    solver: str
    axes: tuple[Grid, ...]
    fixed: dict[str, Any]

    def starts(self) -> list[Point]:
        """Where a search begins: every knob at its start, or left out where that is tried, too."""
        points: list[Point] = [()]
        for axis in self.axes:
            points = [(*point, k) for point in points for k in ((None, 0) if axis.unset else (0,))]
        return points

    def beside(self, point: Point, axis: int, by: int) -> Point | None:
        """The point ``by`` further along an axis; None where that is no other one, or there is none."""
        k, grid = point[axis], self.axes[axis]
        if k is None or abs(k + by) > FARTHEST:
            return None
        value = grid.value(k + by)
        if value < grid.low or value == grid.value(k):
            return None
        return (*point[:axis], k + by, *point[axis + 1 :])

    def knobs(self, point: Point) -> dict[str, Any]:
        """The knobs that a point sets."""
        set_ = {axis.name: axis.value(k) for axis, k in zip(self.axes, point, strict=True) if k is not None}
        return set_ | self.fixed

    def text(self, point: Point) -> str:
        """The solver as a text, the step first."""
        spec = parse(self.solver)
        return str(spec._replace(arguments=self.knobs(point) | spec.arguments))
