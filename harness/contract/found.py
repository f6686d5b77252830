"""What was measured of a solver, whatever it declares: its order, what a step asks, what it holds and how that grows.

What is declared is held to it; what is not is shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from bilevelbench.core.door import WORTH, order_of, total
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import resolve
from bilevelbench.core.solver import Solver, require, start
from bilevelbench.core.spec import parse
from bilevelbench.measure.memory import peak

from .cost import asked, copies, counts_are_as_declared, memory_is_as_declared
from .quadratic import finite_sum, quadratic

SIZES = (4, 64, 1024)  # of x and of y, at which bytes are measured: the last two tell the exponent
SPARE = 0.3  # what is added to n and does not grow with it makes an exponent smaller, never larger


def made_of(target: str) -> Any:
    """The solver as it is asked for."""
    entry, spec = resolve(SOLVERS, target)
    return entry.make(**spec.arguments)


def _settings(target: str) -> Iterator[Any]:
    """The solver as it is asked for, and with each of the settings that it is certified under."""
    entry, spec = resolve(SOLVERS, target)
    for setting in ("", *entry.make(**spec.arguments).certified):
        yield entry.make(**spec.arguments | parse(f"it({setting})").arguments)


def order_is_as_measured(target: str) -> str:
    """The highest order of derivatives that it asks for, over the settings that it is certified under."""
    problem, asks = finite_sum(quadratic(4, 4, 3.0)), dict[int, Counter[str]]()
    told = "order" in made_of(target).declares
    for solver in _settings(target) if told else [made_of(target)]:
        require(solver, problem)
        asks.setdefault(solver.order, Counter()).update(sum(asked(solver, problem), Counter[str]()))
    found = {said: order_of(kinds) for said, kinds in asks.items()}
    if not told:
        return f"{max(found.values())}, as measured; it declares none"
    for said, order in found.items():
        kinds = ", ".join(sorted(kind for kind in asks[said] if order_of([kind]) == order))
        assert order == said, f"declares order {said}, and asks for {kinds}: measured is {order}"
    return " or ".join(map(str, sorted(found)))


def calls_per_step(target: str) -> str:
    """What a step asks: as declared, or as measured where nothing is."""
    solver = made_of(target)
    words = counts_are_as_declared(target) if solver.calls else f"{_asks(solver)}, as measured; it declares none"
    oracle = Oracle(finite_sum(quadratic(4, 4, 3.0)), 0)
    state = start(solver, oracle._problem, oracle)
    calls = oracle.calls
    before = oracle.passes
    oracle.begin(0)
    solver.step(oracle, state)
    took = ", ".join(f"{n} {name}" for name, n in (oracle.passes - before).items())
    begun = ", ".join(f"{n} {kind}" for kind, n in calls.items() if WORTH[kind])
    return f"{words}; passes: {took}" + (f"; its init asks {begun}" if begun else "")


def memory(target: str) -> str:
    """What a step holds, that it does not grow from step to step, and its bytes as a power of n."""
    solver = made_of(target)
    words = memory_is_as_declared(target) if solver.memory else f"{copies(target):.1f} copies of y, as measured"
    held = peak(separable(SIZES[1]), _fitting(solver))
    assert not held["growth_bytes"], (
        f"holds {held['growth_bytes'] / (8 * SIZES[1]):.1f} copies of y more after every step: it keeps a history"
    )
    power, allowed = exponent(solver), 1 + int("n_x" in solver.memory)
    assert not solver.memory or power <= allowed + SPARE, (
        f"its bytes grow like n^{power:.1f} in n = n_x = n_y; declared is n^{allowed}"
    )
    return f"{words}; bytes like n^{power:.1f}"


def exponent(solver: Solver) -> float:
    """The power of n with which peak bytes grow where x and y have n entries each."""
    (calls,) = asked(solver, separable(SIZES[1]), 1)
    small, large = SIZES[1], SIZES[2] if total(calls) < SIZES[1] else SIZES[2] // 4  # a step that asks n times is slow
    bytes_ = [peak(separable(n), solver, steps=2)["peak_bytes"] for n in (small, large)]
    return math.log(bytes_[1] / bytes_[0]) / math.log(large / small)


def _fitting(solver: Solver) -> Solver:
    require(solver, separable(SIZES[0]))
    return solver


def separable(n: int) -> Problem:
    """A finite sum in which nothing but vectors of length n is needed."""
    weight = torch.tensor([0.5, 1.5], dtype=torch.float64)

    def mean(rows: torch.Tensor | None) -> torch.Tensor:
        return (weight if rows is None else weight[rows]).mean()

    return Problem(
        f=lambda x, y, rows=None: mean(rows) * ((y - 1) @ (y - 1) + x @ x) / n,
        g=lambda x, y, rows=None: mean(rows) * ((y - x) @ (y - x)) / 2,
        x0=torch.zeros(n, dtype=torch.float64), y0=torch.zeros(n, dtype=torch.float64), n_f=2, n_g=2,
        flags=frozenset({"strongly_convex"}),
    )  # fmt: skip


def _asks(solver: Any) -> str:
    problem = finite_sum(quadratic(4, 4, 3.0))
    require(solver, problem)
    seen = asked(solver, problem)
    parts = []
    for kind in WORTH:
        low, high = (pick(step[kind] for step in seen) for pick in (min, max))
        if high:
            count = "" if low == high == 1 else f"{high} " if low == high else f"{low}..{high} "
            parts.append(f"{count}{kind}")
    return ", ".join(parts) or "nothing"


def summary(target: str) -> str:
    """One line on what was found, for a solver that declares nothing."""
    problem, solver = finite_sum(quadratic(4, 4, 3.0)), made_of(target)
    try:
        require(solver, problem)
        order = order_of(sum(asked(solver, problem), Counter[str]()))
        return f"order {order}, a step asks {_asks(solver)} and holds {copies(target):.1f} copies of y"
    except Unsupported as reason:
        return f"nothing: {reason}"
