"""Where a solver's knobs are looked for when it is tuned: for each knob a geometric grid without ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Axis(NamedTuple):
    """The grid of a knob: start * ratio^k for whole k, below and above; rounded, from 1 on, where it is a whole number.

    Parameters
    ----------
    start
        Above 0; divided by L to the power ``curvature``, L being the largest curvature of g(x, .) at the problem's
        start.
    ratio
        From 1 on. A ratio of 1 leaves the one value: so steps of lower loops are 1/L for all, unless a class says else.
    curvature
        See ``start``.
    unset
        Leaving the knob as it is by default is tried, too.
    """

    start: float
    ratio: float = 4.0
    curvature: int = 0
    unset: bool = False


STEP = Axis(1.0, 2.0)  # lr: times the step that moves x by its own size, as the hypergradient at the start has it
COMMON: Mapping[str, Axis] = {"lr": STEP, "lr_inner": Axis(1.0, 1.0, 1), "T": Axis(5), "K": Axis(10)}
