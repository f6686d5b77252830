"""Two books on every run: what an oracle answered, and what the problem's own functions were really asked.

They are kept apart and must agree. An answer says by which passes it was worked out, fewer where a graph was kept
(``at``), and the functions count each forward pass themselves. So a solver that asks f or g past the oracle, or writes
its counters back, is found by the difference. Counters are ``itertools.count``: they go up and nothing takes them back.
What is guarded against are accidents, and evasion in Python; who replaces both books at once is found by the audit
(``measure.audit``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .problem import Problem


class Answer(NamedTuple):
    """What is counted alike: a kind of answer, the rows of data behind it (None: it is not about data), and the passes
    that it was worked out by, a letter of ``PASS`` each."""

    kind: str
    rows: int | None
    passes: str


Key = tuple[str, int | None, str]  # an Answer, made without its price
Counts = dict[Key, int]
PASS = {"f": "forward", "b": "backward", "d": "double"}  # backward through a function, or through its gradient

# The problem's function behind each kind of answer; random numbers have none.
FUNCTION = {
    **dict.fromkeys(("f", "df", "df_x", "df_y", "d2f"), "f"),
    **dict.fromkeys(("g", "dg", "dg_x", "dg_y", "d2g", "d2g_xy", "d2g_yy", "d2g_yx"), "g"),
    **dict.fromkeys(("h_f", "dh_f"), "h_f"),
    **dict.fromkeys(("h_g", "dh_g", "dh_g_x", "dh_g_y"), "h_g"),
    **dict.fromkeys(("project_y", "project_y_back"), "project_y"),
    "project_x": "project_x", "project_xy": "project_xy",
}  # fmt: skip
PASSES = dict.fromkeys(FUNCTION, "f")  # of an answer that is worked out by itself
PASSES |= {kind: "fb" for kind in FUNCTION if kind.startswith("d") or kind.endswith("back")}
PASSES |= {kind: "fbd" for kind in FUNCTION if kind.startswith("d2")}
VIRTUAL = 2**62  # rows of a stream's index set: no end of them
METERED = ("f", "g", "y_star", "project_x", "project_y", "project_xy", "h_f", "h_g", "metrics", "final", "references")


def value_of(counter: count[int]) -> int:
    """How often a counter went up."""
    return int(repr(counter)[6:-1])


class Tally:
    """What an oracle answered. The harness makes it, hands it to the oracle and keeps it.

    ``ticks`` has a counter for every ``Answer``; ``next`` on it counts one.
    """

    def __init__(self) -> None:
        self.ticks: defaultdict[Key, count[int]] = defaultdict(count)

    def add(self, counts: Mapping[Key, int]) -> None:
        """Count answers that were recorded, and are given again without being asked for."""
        for answer, n in counts.items():
            self.ticks[answer] = count(value_of(self.ticks[answer]) + n)  # at once: it may be for a million steps

    def read(self) -> Counts:
        """All counts now."""
        return {answer: value_of(counter) for answer, counter in self.ticks.items()}

    def shot(self) -> dict[Key, str]:
        """All counts now as ``parsed`` reads them later: it takes a microsecond."""
        return {answer: repr(counter) for answer, counter in self.ticks.items()}


def parsed(shot: Mapping[Key, str]) -> Counts:
    """The counts of a ``shot``."""
    return {answer: int(text[6:-1]) for answer, text in shot.items()}


def less(after: Counts, before: Counts) -> Counts:
    """What was counted between two readings."""
    return {answer: n - before.get(answer, 0) for answer, n in after.items() if n != before.get(answer, 0)}


def calls(counts: Counts) -> Counter[str]:
    """Answers by kind."""
    made: Counter[str] = Counter()
    for (kind, _, _), n in counts.items():
        made[kind] += n
    return made


def rows(counts: Counts) -> Counter[str]:
    """Rows of data behind the answers, by kind."""
    made: Counter[str] = Counter()
    for (kind, size, _), n in counts.items():
        if size is not None:
            made[kind] += size * n
    return made


def passes(counts: Counts) -> Counter[str]:
    """Passes through f, g and the constraints, by the words of ``PASS``."""
    made: Counter[str] = Counter()
    for (kind, _, letters), n in counts.items():
        if not kind.startswith("project"):
            for letter in letters:
                made[PASS[letter]] += n
    return made


def kept(counts: Counts) -> Counter[str]:
    """Answers by kind that a kept graph gave, without a forward pass."""
    made: Counter[str] = Counter()
    for (kind, _, letters), n in counts.items():
        if kind in FUNCTION and "f" not in letters:
            made[kind] += n
    return made


class Meter:
    """What a problem's own functions were asked, by function and rows (None where it is not about data)."""

    def __init__(self) -> None:
        self._ticks: defaultdict[tuple[str, int | None], count[int]] = defaultdict(count)

    def read(self) -> dict[tuple[str, int | None], int]:
        """How often each was asked."""
        return {asked: n for asked, counter in self._ticks.items() if (n := value_of(counter))}

    def over_data(self, name: str, fn: Callable[..., Any], n: int, *like: Tensor) -> Callable[..., Any]:
        """f or g, counted: of ``rows`` indices, or of all ``n``."""
        ticks = self._ticks

        def metered(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Any:
            try:
                if rows is None:
                    next(ticks[name, n])
                    return fn(x, y)
                next(ticks[name, rows.numel()])
                return fn(x, y, rows)
            except BaseException as error:
                if rows is None or (rows.numel() and int(rows.min()) >= 0 and int(rows.max()) < n):
                    blame(error, (x, y), like)
                raise

        return metered

    def plain(self, name: str, fn: Callable[..., Any], *like: Tensor) -> Callable[..., Any]:
        """Any other function, counted."""
        ticks = self._ticks

        def metered(*points: Tensor) -> Any:
            next(ticks[name, None])
            try:
                return fn(*points)
            except BaseException as error:
                blame(error, points, like)
                raise

        return metered


def metered(problem: Problem, meter: Meter) -> Problem:
    """The problem with functions that count themselves."""
    x, y = problem.x0, problem.y0
    n_f, n_g = (problem.n_f, problem.n_g) if problem.stream is None else (VIRTUAL, VIRTUAL)
    made: dict[str, Any] = {
        "f": meter.over_data("f", problem.f, n_f, x, y),
        "g": meter.over_data("g", problem.g, n_g, x, y),
    }
    for name in METERED[2:]:
        if (fn := getattr(problem, name)) is not None:
            like = {"y_star": (x,), "project_x": (x,), "project_y": (y,), "references": ()}.get(name, (x, y))
            made[name] = meter.plain(name, fn, *like)
    return dataclasses.replace(problem, **made)


def blame(error: BaseException, points: tuple[Any, ...], like: tuple[Tensor, ...]) -> None:
    """Mark what a problem's function raised at points that it must take (``fault = "problem"``).

    That there is no memory left is not for us to blame on anybody.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return
    try:
        sound = all(
            point.shape == one.shape and point.dtype == one.dtype and bool(torch.isfinite(point).all())
            for point, one in zip(points, like, strict=True)
        )
    except Exception:  # they are no tensors, or of another number
        sound = False
    if sound and not hasattr(error, "fault"):
        error.fault = "problem"  # type: ignore[attr-defined]


def difference(tally: Tally, meter: Meter) -> str:
    """One sentence where the two books do not agree, or ''."""
    accounted: Counter[tuple[str, int | None]] = Counter()
    for (kind, size, letters), n in tally.read().items():
        if "f" in letters:
            accounted[FUNCTION[kind], size] += n
    asked = meter.read()
    for key in sorted(set(asked) | set(accounted), key=str):
        if asked.get(key, 0) != accounted[key]:
            name, size = key
            by_name = [sum(n for (other, _), n in book.items() if other == name) for book in (asked, accounted)]
            if by_name[0] != by_name[1]:
                return f"{name} was asked {times(by_name[0])} and the oracle accounts for {by_name[1]}"
            return (
                f"{name} was asked {times(asked.get(key, 0))} for {size} rows and the oracle accounts for "
                f"{accounted[key]}"
            )
    return ""


def times(n: int) -> str:
    """A number of times, in words."""
    return "once" if n == 1 else f"{n} times"


CODES = frozenset(  # of the wrappers: below one of these runs the problem's own code
    (Meter().over_data("f", min, 1).__code__, Meter().plain("f", min).__code__)
)


def plainest(fn: Any) -> Any:
    """The Python function behind a callable: of a partial, a bound method or an object that can be called; or None."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)
    if not hasattr(fn, "__code__"):
        fn = getattr(fn, "forward", None) or type(fn).__call__
        fn = getattr(fn, "__func__", fn)
    return fn if hasattr(fn, "__code__") else None
