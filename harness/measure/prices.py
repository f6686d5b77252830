"""What an oracle's answers cost: measured per problem, device and engine, never guessed.

A price is what the bare derivative takes, without oracle and solver. Calls times prices is the *floor* of a step: the
least that the answers it asks for can take. In units of one gradient of g in y these are gradient equivalents.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.derive import Derivatives
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import WORTH, Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, State, start

from .clock import drain

Question = tuple[str, tuple[Any, ...]]  # a kind of call and its arguments

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

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if not WORTH.get(name):
            return method

        def recorded(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            return method(*arguments)

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


def bare(problem: Problem, derivatives: Derivatives = derive) -> dict[str, Callable[..., Any]]:
    """The derivative behind every kind of question, without oracle."""
    answers: dict[str, Callable[..., Any]] = {"d2g_yx": partial(derivatives.cross_transposed, problem.g)}
    for name, fn in (("f", problem.f), ("g", problem.g)):
        answers[name] = partial(derivatives.value, fn)
        answers[f"d{name}"] = partial(derivatives.grad, fn)
        answers[f"d{name}_x"] = partial(derivatives.grad_x, fn)
        answers[f"d{name}_y"] = partial(derivatives.grad_y, fn)
        answers[f"d2{name}"] = partial(derivatives.second, fn)
        answers[f"d2{name}_xy"] = partial(derivatives.second, fn, wrt="x")
        answers[f"d2{name}_yy"] = partial(derivatives.second, fn, wrt="y")
    for name, h in (("h_f", problem.h_f), ("h_g", problem.h_g)):
        if h is not None:
            answers[name] = partial(derivatives.value, h)
            answers[f"d{name}"] = partial(derivatives.pullback, h)
            answers[f"d{name}_x"] = partial(derivatives.pullback, h, wrt="x")
            answers[f"d{name}_y"] = partial(derivatives.pullback, h, wrt="y")
    return {kind: answer for kind, answer in answers.items() if kind in WORTH}


def answer(problem: Problem, asked: list[Question]) -> None:
    """Answer questions once more by the derivatives alone: the same at the same points."""
    answers = bare(problem)
    for kind, arguments in asked:
        if kind in answers:  # of constraints that are not there nothing is evaluated
            answers[kind](*arguments)


def prices(problem: Problem, device: str = "cpu", derivatives: Derivatives = derive) -> dict[str, list[float]]:
    """Seconds by kind of answer: [of a call, of each row of data in it], medians of interleaved rounds.

    CPU seconds on the CPU (a busy machine does not spoil them), wall seconds elsewhere. Where the objective is no
    finite sum, or has few rows, a row costs nothing. Kinds for which there was no time, or
    no second derivative, are left out.
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
        if sizes:
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
        calls[kind, n] = partial(fn, x, y, *vector)
        if n > 2 * BATCH:
            calls[kind, BATCH] = partial(fn, x, y, *vector, torch.arange(BATCH, device=x.device))
    return calls
