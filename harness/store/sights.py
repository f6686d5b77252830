"""Whether runs of one problem and seed saw the same problem."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

CLOSE = 1e-9  # relative, between machines: what was computed from the same draws


class Sight(NamedTuple):
    """What a run saw: digests of what was drawn and of what was computed from it, where, and numbers of the start."""

    drawn: str
    computed: str
    machine: str
    on: str
    numbers: tuple[float | None, ...]


def sights(runs: pd.DataFrame) -> tuple[list[int], str]:
    """For each run of a problem a number that is equal where they saw the same, 1 for the most frequent; and what
    differs, '' where nothing does.

    What was drawn must be equal on every machine, what was computed from it on one machine and number of threads; the
    numbers of the start agree between machines up to rounding. Of what a run does not say nothing is held against it.
    """
    numbers = [1] * len(runs)
    differs: dict[str, set[int]] = {}
    groups: dict[tuple[Any, ...], dict[Sight, list[int]]] = {}  # pandas takes a millisecond for each of thousands
    keys = zip(*(runs[name].tolist() for name in ("version", "device", "dtype", "seed")), strict=True)
    seen = map(Sight, *(runs[name].tolist() for name in Sight._fields))
    for index, (key, sight) in enumerate(zip(keys, seen, strict=True)):
        groups.setdefault(key, {}).setdefault(sight, []).append(index)
    for (*_, seed), saw in groups.items():
        if len(saw) == 1:
            continue
        for place, (members, what) in enumerate(_classes(sorted(saw, key=lambda s: (-len(saw[s]), repr(s)))), start=1):
            for index in (index for sight in members for index in saw[sight]):
                numbers[index] = place
            if what:
                differs.setdefault(what, set()).add(int(seed))
    said = [f"{what} differs at seed {_some(sorted(seeds))}" for what, seeds in sorted(differs.items())]
    return numbers, " and ".join(said)


def _classes(ordered: list[Sight]) -> list[tuple[list[Sight], str]]:
    """Sights of one problem each, with what tells the class from the first."""
    classes: list[tuple[list[Sight], str]] = []
    for sight in ordered:
        unlike = [next((what for other in members if (what := _unlike(sight, other))), "") for members, _ in classes]
        if "" in unlike:
            classes[unlike.index("")][0].append(sight)
        else:
            classes.append(([sight], unlike[0] if unlike else ""))
    return classes


def _unlike(one: Sight, two: Sight) -> str:
    if one.drawn and two.drawn and one.drawn != two.drawn:
        return "what was drawn"
    same_place = (one.machine, one.on) == (two.machine, two.on)
    if same_place and one.computed and two.computed and one.computed != two.computed:
        return "what was computed from the draws"
    if one.numbers and two.numbers and not close(one.numbers, two.numbers):
        return "f or g at the start"
    return ""


def close(one: tuple[float | None, ...], two: tuple[float | None, ...]) -> bool:
    """Whether the numbers of two starts are those of one problem, seen by one machine or by two."""
    return len(one) == len(two) and all(
        a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=CLOSE))
        for a, b in zip(one, two, strict=True)
    )


def _some(seeds: list[int]) -> str:
    more = f" and {len(seeds) - 5} more" if len(seeds) > 5 else ""
    return ", ".join(map(str, seeds[:5])) + more
