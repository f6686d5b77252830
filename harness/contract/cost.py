"""What a step costs: oracle calls and memory as declared, and as found.

``calls`` of a solver lists what one step asks of the oracle, ``"T dg_y, df, K-1 d2g_yy"``: a count, which may be any
expression in the solver's knobs, n_x and n_y and is 1 where left out, and a kind. ``"0..K-1 d2g_yy"`` is a range, for
a step that asks as often as chance or the path tells. ``memory`` is what a step holds beyond x, y and the answer in
hand, in copies of y: an expression in the knobs, n_x and n (the rows of a finite sum).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.door import WORTH
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import knobs, make_solver, resolve
from bilevelbench.core.solver import require, start
from bilevelbench.measure.memory import peak

from .quadratic import finite_sum, quadratic

Range = tuple[int, int]


def declared(solver: Any, problem: Problem) -> dict[str, Range]:
    """The declared (least, most) answers per step by kind; kinds that cost nothing (draws, projections) left out."""
    asked: dict[str, Range] = {}
    known = vars(solver) | {"n_x": len(problem.x0), "n_y": len(problem.y0)}
    for item in filter(None, (part.strip() for part in solver.calls.split(", "))):
        count, _, kind = item.rpartition(" ")
        if kind not in WORTH:
            raise AssertionError(f"declares calls of {kind!r}, which is no kind of oracle call; {', '.join(WORTH)} are")
        low, dots, high = (count.strip() or "1").partition("..")
        bounds = [int(_value(text, known)) for text in (low, high if dots else low)]
        before = asked.get(kind, (0, 0))
        asked[kind] = before[0] + bounds[0], before[1] + bounds[1]
    return {kind: bounds for kind, bounds in asked.items() if bounds[1]}


def _value(text: str, names: dict[str, Any]) -> Any:
    try:
        return eval(text, {"__builtins__": {}, "min": min, "max": max}, names)  # the solver is code of its author, too
    except Exception as error:
        raise AssertionError(f"its cost {text!r} cannot be worked out: {error}") from None


def asked(solver: Any, problem: Problem, steps: int = 4) -> list[Counter[str]]:
    """What each step asked, by kind, kinds that cost nothing left out."""
    oracle = Oracle(problem, 0)
    state = start(solver, problem, oracle)
    seen = []
    for k in range(steps):
        oracle.begin(k)
        before = oracle.calls.copy()
        state = solver.step(oracle, state)
        seen.append(Counter({kind: n for kind, n in (oracle.calls - before).items() if WORTH[kind]}))
    return seen


def _sized(target: str, **wanted: int) -> Any:
    """The solver with these whole-number knobs where it has them."""
    entry, spec = resolve(SOLVERS, target)
    return entry.make(**spec.arguments | {k: v for k, v in wanted.items() if k in knobs(entry)})


def counts_are_as_declared(target: str) -> str:
    """Each step asks the oracle what the solver declares, by kind, whatever T, K and Q are."""
    if not make_solver(target).calls:
        raise Unsupported("it declares no calls per step")
    for T, K, Q in ((1, 1, 1), (1, 4, 2), (5, 2, 3)):
        solver = _sized(target, T=T, K=K, Q=Q)
        problem = finite_sum(quadratic(4, 4, 3.0))
        require(solver, problem)
        bounds = declared(solver, problem)
        for seen in asked(solver, problem):
            for kind in sorted(set(seen) | set(bounds)):
                low, high = bounds.get(kind, (0, 0))
                assert low <= seen[kind] <= high, (
                    f"a step asks {seen[kind]} times for {kind} at T={T}, K={K}, Q={Q}; declared are {low} to {high}"
                )
    return make_solver(target).calls


WIDE = 4096  # variables of y: wide enough that scalars and small vectors weigh nothing


def _wide(n_x: int, n: int) -> Problem:
    """A separable problem with much to hold in y: f and g are means of n rows."""
    which = torch.arange(WIDE) % n_x
    weight = torch.linspace(0.5, 1.5, n, dtype=torch.float64)

    def mean(rows: Tensor | None) -> Tensor:
        return (weight if rows is None else weight[rows]).mean()

    return Problem(
        f=lambda x, y, rows=None: mean(rows) * ((y - 1) @ (y - 1) + x @ x) / WIDE,
        g=lambda x, y, rows=None: mean(rows) * ((y - x[which]) @ (y - x[which])) / 2,
        x0=torch.zeros(n_x, dtype=torch.float64), y0=torch.zeros(WIDE, dtype=torch.float64), n_f=n, n_g=n,
        flags=frozenset({"strongly_convex"}),
    )  # fmt: skip


def copies(target: str, n_x: int = 2, n: int = 4, **wanted: int) -> float:
    """Peak of live tensor bytes of a step, in copies of y."""
    solver = _sized(target, **wanted)
    problem = _wide(n_x, n)
    require(solver, problem)
    return peak(problem, solver, steps=2)["peak_bytes"] / (8 * WIDE)


def memory_is_as_declared(target: str) -> str:
    """The peak of live bytes grows with T, K, Q, n_x and n as declared, and with nothing that is not declared."""
    solver = make_solver(target)
    if not solver.memory:
        raise Unsupported("it declares no memory")
    base = {"T": 3, "K": 3, "Q": 3, "n_x": 2, "n": 4}
    known = vars(solver)
    words = [f"{copies(target, **base):.1f} copies of y"]
    for name, more in (("T", 13), ("K", 13), ("Q", 13), ("n_x", 12), ("n", 24)):
        if name in "TKQ" and name not in known:
            assert not re.search(rf"\b{name}\b", solver.memory), f"declares memory in {name}, which it has not"
            continue
        sizes = base | {name: more}
        expected = _value(solver.memory, known | sizes) - _value(solver.memory, known | base)
        grown = copies(target, **sizes) - copies(target, **base)
        low, high = (0.6 * expected, 4 * expected) if expected else (-1.5, 1.5)
        assert low <= grown <= high, (
            f"{name} from {base[name]} to {more} adds {grown:.1f} copies of y; declared are {expected:g}"
        )
        if expected:
            words.append(f"{grown / (more - base[name]):.1f} more for each {name}")
    return f"O({solver.memory}): " + ", ".join(words)
