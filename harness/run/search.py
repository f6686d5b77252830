"""The search for a configuration: the same number of them for every solver, on a lattice that has no ends.

Steps first, eight times apart; then around the best so far: further out where it is the outermost, the steps twice and
half as long, the neighbours of its other knobs; then around the next best, until the number is used up. All this is on
one instance. The two best, with the steps beside them, then meet the other instances (successive halving). A
configuration is worth the median over itself, twice and half its step, and all instances, so that a knife edge loses
to what is robust.

Where the best so far, or the choice, then lies at the end of what was tried, up to ``MORE`` further configurations are
tried around and beyond it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from .lattice import Lattice, Point

COARSE = (-3, 0, -6, 3, -9)  # powers of two
FAR = 3  # where it goes on beyond the outermost
FINALISTS = 2
MORE = 8
LEAST = 12  # configurations: with fewer the steps are not reached from all starts

Search = Generator[list[tuple[Point, int]], list[float], "Choice"]  # asks for scores of (point, seed)


class Choice(NamedTuple):
    """What a search has led to. ``worth``: the median that it was chosen by; ``edges``: knobs at the end of what was
    tried; ``tried``: how many configurations; ``scores``: of all that was asked, by point and seed."""

    point: Point
    worth: float
    edges: tuple[str, ...]
    tried: int
    scores: dict[tuple[Point, int], float]


def search(lattice: Lattice, configs: int, seeds: Sequence[int]) -> Search:
    """Ask for scores (0 is the worst) until ``configs`` configurations have been tried, and choose."""
    if not lattice.axes:
        return Choice((), 0.0, (), 1, {})
    first, *others = seeds
    scores: dict[tuple[Point, int], float] = {}

    def ask(points: Sequence[Point], seed: int) -> Search:
        new = [(point, seed) for point in dict.fromkeys(points) if (point, seed) not in scores]
        scores.update(zip(new, (yield new) if new else [], strict=True))
        return Choice((), 0.0, (), 0, {})

    tried = _Tried(lattice, scores, first)
    yield from ask([(k, *start[1:]) for start in lattice.starts() for k in COARSE], first)
    while len(tried) < configs and (point := tried.next()):
        yield from ask([point], first)
    if not tried.centred():  # it has only gone further and further
        yield from ask(tried.beside(tried.ranked()[0]), first)
    while True:
        while not tried.centred_at_best() and len(tried) < configs + MORE and (point := tried.next()):
            yield from ask([point], first)
        finalists = tried.finalists()
        for seed in others:
            yield from ask([side for point in finalists for side in tried.beside(point)], seed)
        best = max(finalists, key=lambda point: tried.worth(point, seeds))
        beyond = tried.beyond(best)
        if not beyond or len(tried) >= configs + MORE:
            break
        yield from ask([beyond[0][1]], first)
    if tried.worth(top := tried.ranked()[0], [first]) > tried.worth(best, [first]) and not tried.centred_at_best():
        beyond += tried.beyond(top)  # it was on its way there
    edges = dict.fromkeys(lattice.axes[axis].name for axis, _ in beyond)
    return Choice(best, tried.worth(best, seeds), tuple(edges), len(tried), scores)


class _Tried:
    """What was tried on the first instance."""

    def __init__(self, lattice: Lattice, scores: dict[tuple[Point, int], float], first: int) -> None:
        self._lattice, self._scores, self._first = lattice, scores, first

    @property
    def own(self) -> dict[Point, float]:
        """Scores on the first instance."""
        return {point: score for (point, seed), score in self._scores.items() if seed == self._first}

    def __len__(self) -> int:
        return len(self.own)

    def ranked(self) -> list[Point]:
        """The points, best first."""
        own = self.own
        return sorted(own, key=lambda point: -own[point])  # of equals the one that was tried first

    def beside(self, point: Point) -> list[Point]:
        """The point with those of half and twice its step."""
        sides = (self._lattice.beside(point, 0, by) for by in (-1, 1))
        return [point, *(side for side in sides if side)]

    def centred(self) -> list[Point]:
        """Points whose neighbours in the step have been tried."""
        own = self.own
        return [point for point in self.ranked() if all(side in own for side in self.beside(point))]

    def finalists(self) -> list[Point]:
        """The best of them by the first instance; one beside another is met with that."""
        found: list[Point] = []
        for point in sorted(self.centred(), key=lambda point: -self.worth(point, [self._first])):
            if len(found) < FINALISTS and not any(point in self.beside(other) for other in found):
                found.append(point)
        return found

    def centred_at_best(self) -> bool:
        """Whether the best point is among them."""
        return self.ranked()[0] in self.centred()

    def worth(self, point: Point, seeds: Sequence[int]) -> float:
        """The median over a point, its neighbours in the step, and instances; what was not asked is left out."""
        asked = [(side, seed) for side in self.beside(point) for seed in seeds]
        return median(self._scores[one] for one in asked if one in self._scores)

    def next(self) -> Point | None:
        """The next point to be tried: about the best one that something is missing about."""
        own = self.own
        for point in self.ranked():
            for near in self._about(point):
                if near not in own:
                    return near
        return None

    def _about(self, point: Point) -> Iterator[Point]:
        axes = range(len(self._lattice.axes))
        moves = [*((0, FAR * by) for by in self._ends(point)), (0, -1), (0, 1)]
        moves += [(axis, by) for axis in axes[1:] for by in (-1, 1)]
        yield from (near for axis, by in moves if (near := self._lattice.beside(point, axis, by)))

    def _ends(self, point: Point) -> list[int]:
        """Directions in which there is no longer, or no shorter, step with the same further knobs."""
        steps = [other[0] for other in self.own if other[1:] == point[1:] and other[0] is not None]
        assert point[0] is not None
        return [by for by in (-1, 1) if all(by * k <= by * point[0] for k in steps)]

    def beyond(self, point: Point) -> list[tuple[int, Point]]:
        """What is to be tried before a choice is inside, with the axis along which that is."""
        own = self.own
        best = max((other for other in own if other[1:] == point[1:]), key=lambda other: own[other])
        best = best if own[best] > own[point] else point
        found = [(0, self._lattice.beside(best, 0, FAR * by)) for by in self._ends(best)]
        for axis in range(1, len(point)):
            if (k := point[axis]) is not None:
                tried = [other[axis] or 0 for other in own if other[axis] is not None]
                ends = [by for by in (-1, 1) if all(by * other <= by * k for other in tried)]
                found += [(axis, self._lattice.beside(point, axis, by)) for by in ends]
        return [(axis, near) for axis, near in found if near]
