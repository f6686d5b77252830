"""Ratios of seconds measured in one process, paired and interleaved: a busy machine slows both sides alike.

CPU seconds on the CPU, wall seconds after the device has finished elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start

from .by_hand import begin, by_hand
from .clock import drain
from .prices import answer, questions

ROUNDS = 30
BLOCK = 0.003  # seconds between two readings: the clock's own cost is a thousandth of it


class Ratio(NamedTuple):
    """The median of paired ratios, and the bootstrap interval (95 %, percentile) around it."""

    median: float
    low: float
    high: float


def paired(one: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS, device: str = "cpu") -> Ratio:
    """Seconds of ``one`` over those of ``other``, which take turns in going first; one round of warm-up."""
    wait = drain(device)
    clock = time.process_time if device.partition(":")[0] == "cpu" else time.perf_counter

    def seconds(work: Callable[[], object]) -> float:
        wait()
        since = clock()
        work()
        wait()
        return clock() - since

    seen = []
    for k in range(rounds + 1):
        if k % 2:
            first, second = seconds(one), seconds(other)
        else:
            second, first = seconds(other), seconds(one)
        seen.append(first / second)
    return interval(np.array(seen[1:]))


def interval(ratios: np.ndarray) -> Ratio:
    """The same numbers give the same interval."""
    resampled = np.random.default_rng(0).choice(ratios, (1000, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def steps_of(problem: Problem, solver: Solver, steps: int, begun: bool = False) -> Callable[[], object]:
    """What makes a solver's first steps, with an oracle of its own. ``begun``: each time from a start made here."""
    oracle = Oracle(problem, 0)
    first = start(solver, problem, oracle) if begun else None

    def run() -> object:
        o, state = oracle, first
        if state is None:
            o = Oracle(problem, 0)
            state = start(solver, problem, o)
        for k in range(steps):
            o.begin(k)
            state = solver.step(o, state)
        return state

    return run


def floor_of(problem: Problem, solver: Solver, steps: int) -> Callable[[], object]:
    """The least that a solver's first steps take: the loop that somebody wrote by hand, or the bare derivatives that
    they ask for, at the same points."""
    step = by_hand(problem, solver)
    if step is None:
        asked, _ = questions(problem, solver, steps)
        return lambda: answer(problem, asked)
    hand, first = step, begin(problem, solver)

    def run() -> object:
        state = first
        for _ in range(steps):
            state = hand(*state)
        return state

    return run


def block(problem: Problem, solver: Solver) -> int:
    """How many of a solver's first steps take long enough to be timed."""
    one = steps_of(problem, solver, 1)
    one()
    since = time.process_time()
    one()
    return min(30, max(1, math.ceil(BLOCK / max(1e-6, time.process_time() - since))))


def step_over_floor(problem: Problem, solver: Solver, rounds: int = ROUNDS, device: str = "cpu") -> Ratio:
    """Seconds of a solver's steps over those of their floor (see ``floor_of``). Neither has the start in it: the ratio
    would hang on how many steps there are, and that on how fast the machine is."""
    steps = block(problem, solver)
    return paired(steps_of(problem, solver, steps, begun=True), floor_of(problem, solver, steps), rounds, device)
