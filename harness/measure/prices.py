"""What an oracle's answers cost: measured per problem, device and engine, never guessed.

A price is what the bare derivative takes, without oracle and solver. Calls times prices is the *floor* of a step: the
least that the answers it asks for can take. In units of one gradient of g in y these are gradient equivalents.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.at import At
from bilevelbench.core.derive import Derivatives
from bilevelbench.core.door import WORTH
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, State, start

from .clock import drain


class Question(NamedTuple):
    """A kind of call, its arguments, and at which point where things are kept: (step, the how manieth, order)."""

    kind: str
    arguments: tuple[Any, ...]
    at: tuple[int, int, int] | None = None


LIMIT = 0.2  # seconds for all prices of a problem, beyond the first call of each kind
PATIENCE = 2.0  # seconds after which what was not called once has no price
ROUNDS = 9
BLOCK = 4  # calls between two readings
BATCH = 64  # rows of the minibatch that tells a call's own price from that of its rows


class Recording(Oracle):
    """An oracle that keeps every question with its arguments; those that cost nothing left out."""

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        self.asked: list[Question] = []
        self._points: dict[int, int] = {}
        self._made = count()

    def at(self, x: Tensor, y: Tensor, order: int = 2) -> At:
        """A point, numbered."""
        made = super().at(x, y, order)
        self._points[id(made)] = next(self._made)  # an address is used again, and then stands for the later one
        return made

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if not WORTH.get(name):
            return method

        def recorded(*arguments: Any, rows: Tensor | None = None, at: At | None = None) -> Any:
            given = tuple(part for part in (*arguments, rows) if part is not None)  # an f without rows takes no None
            place = None if at is None else (self.step, self._points[id(at)], at._order)
            self.asked.append(Question(name, given, place))
            return method(*given) if at is None else method(*arguments, at=at)

        return recorded


def questions(problem: Problem, solver: Solver, steps: int, seed: int = 0) -> tuple[list[Question], State]:
    """What a solver's first steps ask, the questions of its start left out, and the state after them."""
    oracle = Recording(problem, seed)
    state = start(solver, problem, oracle)
    oracle.asked.clear()
    for k in range(steps):
        oracle.begin(k)
        state = solver.step(oracle, state)
    return oracle.asked, state


# Kind -> the function behind it, the derivative and its options.
DERIVATIVES: dict[str, tuple[str, str, dict[str, str]]] = {"d2g_yx": ("g", "cross_transposed", {})}
for _name in "fg":
    DERIVATIVES |= {
        _name: (_name, "value", {}), f"d{_name}": (_name, "grad", {}), f"d{_name}_x": (_name, "grad_x", {}),
        f"d{_name}_y": (_name, "grad_y", {}), f"d2{_name}": (_name, "second", {}),
        f"h_{_name}": (f"h_{_name}", "value", {}), f"dh_{_name}": (f"h_{_name}", "pullback", {}),
    }  # fmt: skip
for _letter in "xy":
    DERIVATIVES[f"d2g_{_letter}y"] = "g", "second", {"wrt": _letter}
    DERIVATIVES[f"dh_g_{_letter}"] = "h_g", "pullback", {"wrt": _letter}


def bare(problem: Problem, derivatives: Derivatives = derive) -> dict[str, Callable[..., Any]]:
    """The derivative behind every kind of question, without oracle."""
    return {
        kind: partial(getattr(derivatives, method), fn, **options)
        for kind, (name, method, options) in DERIVATIVES.items()
        if (fn := getattr(problem, name)) is not None
    }


def answer(problem: Problem, asked: list[Question]) -> None:
    """Answer questions once more by the derivatives alone: the same at the same points, and kept where they were."""
    answers = bare(problem)
    step, points = -1, dict[tuple[int, str, int], tuple[Any, Any]]()
    for kind, arguments, at in asked:
        if kind not in answers:  # of constraints that are not there nothing is evaluated
            continue
        if at is None:
            answers[kind](*arguments)
            continue
        if at[0] != step:
            step = at[0]
            points.clear()
        name, method, options = DERIVATIVES[kind]
        x, y, *rest = arguments
        rows = rest[1 if "2" in kind else 0 :]
        key = at[1], name, id(rows[0]) if rows else 0
        if key not in points:
            points[key] = derive.keep(getattr(problem, name), x, y, *rows, order=at[2]), rows
        getattr(points[key][0], method)(None, *arguments, **options)


def prices(problem: Problem, device: str = "cpu", derivatives: Derivatives = derive) -> dict[str, list[float]]:
    """Seconds by kind of answer: [of a call, of each row of data in it], medians of interleaved rounds.

    CPU seconds on the CPU (a busy machine does not spoil them), wall seconds elsewhere. Where the objective is no
    finite sum, or has few rows, a row costs nothing. "kept KIND": a product whose graph is kept. Kinds for which there
    was no time, or no second derivative, are left out.
    """
    wait, on_cpu = drain(device), torch.device(device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    asked = _calls(problem, derivatives)
    seen: dict[tuple[str, int], list[float]] = {key: [] for key in asked}
    begin = time.perf_counter()
    for done in range(ROUNDS + 1):
        for key, call in list(asked.items()):
            spent = time.perf_counter() - begin
            if spent > (PATIENCE if done == 0 else LIMIT):
                break
            block = BLOCK if done else 1
            wait()
            since = clock()
            try:
                for _ in range(block):
                    call()
            except Unsupported:  # a second derivative that torch does not have
                del asked[key]
                continue
            wait()
            seen[key].append((clock() - since) / block)
    # the first call of a kind is warm-up, unless it is the only one
    found = {key: statistics.median(times[1:] or times) for key, times in seen.items() if times}
    made = {}
    for kind in dict.fromkeys(kind for kind, _ in asked):
        sizes = sorted(n for k, n in found if k == kind)
        if sizes and (not kind.startswith("kept") or len(seen[kind, sizes[-1]]) > 1):  # the first makes the graph
            made[kind] = _line([(n, found[kind, n]) for n in sizes])
    return made


def _line(points: list[tuple[int, float]]) -> list[float]:
    """[of a call, of a row]: the line through one or two (rows, seconds), neither part negative."""
    rows, seconds = points[-1]
    if len(points) == 1:
        return [seconds, 0.0]
    slope = max(0.0, (seconds - points[0][1]) / (rows - points[0][0]))
    slope = min(slope, seconds / rows)
    return [seconds - slope * rows, slope]


def _calls(problem: Problem, derivatives: Derivatives) -> dict[tuple[str, int], Callable[[], Any]]:
    """A call of each kind at the start, with all rows and with a minibatch, by (kind, rows)."""
    x, y = problem.x0, problem.y0
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for kind, fn in bare(problem, derivatives).items():
        if "h_" in kind:
            h = problem.h_f if kind.endswith("h_f") else problem.h_g
            assert h is not None
            weight: tuple[Tensor, ...] = () if kind in ("h_f", "h_g") else (torch.ones_like(h(x, y)),)
            calls[kind, 0] = partial(fn, x, y, *weight)
            continue
        n = problem.n_f if kind in ("f", "df", "df_x", "df_y", "d2f") else problem.n_g
        vector = () if "2" not in kind else (torch.ones_like(x if kind == "d2g_yx" else y),)
        sizes: dict[int, tuple[Tensor, ...]] = {n: ()}
        if n > 2 * BATCH:
            sizes[BATCH] = (torch.arange(BATCH, device=x.device),)
        for size, rows in sizes.items():
            calls[kind, size] = partial(fn, x, y, *vector, *rows)
            name, method, options = DERIVATIVES[kind]
            if vector and (kept := derivatives.keep(getattr(problem, name), x, y, *rows, order=2)):
                calls[f"kept {kind}", size] = partial(getattr(kept, method), None, x, y, *vector, *rows, **options)
    return calls
