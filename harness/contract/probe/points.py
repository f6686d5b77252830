"""Where an answer is taken, which steps it is differentiated through, and of which minibatches it is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .answers import series
from .tasks import Hypergradient, Quadratic, Rows, ask, off, seen, split

SIX = [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
AWAY = 0.5
NEAR = 1e-5  # of a ratio: what counts as equal
STEPS = 400  # as many are told apart
CALLS = 64  # over which minibatches are averaged, an eighth of them where they ask much
EVALUATIONS = 1000


def place(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """At which point the answer is taken, where it is asked for a y that is not y*.

    At y* no step moves y, so that the answer tells which share of H^-1 it has in each direction; away from it the
    implicit part then tells f_y, and so the point. Wrong: steps that were all taken with the gradient at the first y.
    """
    task = Quadratic(SIX)
    best, shift = task.y_star(), AWAY * torch.linspace(0.6, 1.6, len(SIX), dtype=torch.float64)
    share = task.implicit(split(hypergradient, SIX)[0]) * task.h / (best - task.c)
    found = task.implicit(split(hypergradient, SIX, AWAY)[0]) * task.h / share + task.c
    left = (found - best) / shift
    if not bool(torch.isfinite(left).all()) or float(share.abs().min()) < NEAR:
        return [seen("y away from y*", "the answer does not tell where it is taken", True)]
    terms = series(task.h.tolist(), share.tolist())
    text, fine = where(task.h, left, terms)
    if terms and terms[0] < STEPS:
        text += f"; {terms[0]} step{'s' * (terms[0] > 1)} of {terms[1]:.4g} differentiated"
    return [seen("y away from y*", text, fine)]


def where(h: Tensor, left: Tensor, terms: tuple[int, float] | None) -> tuple[str, bool]:
    """In words: the point whose distance to y* is the share ``left`` of the first one's in each direction."""
    if close(left, torch.ones_like(left)):
        return "evaluated at y", True
    if close(left, torch.zeros_like(left)):
        return "evaluated at y*", True
    for steps in range(1, STEPS + 1):
        if bool((left > 0).all()):
            step = float(1 - left[0] ** (1 / steps)) / float(h[0])
            if close(left, (1 - step * h) ** steps):
                return f"evaluated after {steps} step{'s' * (steps > 1)} of {step:.4g} from y", True
    for after in range(STEPS + 1) if terms else (0,):
        rest = left / (1 - (terms[1] if terms else 0.0) * h) ** after
        total = float(1 - rest[0]) / float(h[0])
        if close(rest, 1 - total * h):
            words = f"steps that add up to {total:.4g}, all taken with the gradient at the first y"
            return f"evaluated after {words}" + (f", and {after} true one{'s' * (after > 1)}" if after else ""), False
    return f"off by {float((left - 1).norm()):.2g} from that at y, by {float(left.norm()):.2g} from that at y*", True


def close(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= NEAR).all())


def truncation(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """Which of the gradients of g that were asked are differentiated; wrong where some of several are not."""
    if getattr(hypergradient, "arrays", ""):
        return []
    task = Quadratic(SIX)
    task.apart = True
    ask(hypergradient, task, task.y_star() + 0.5)
    asked = [k for k in range(1, task.counts["g"] + 1) if task.counts[f"g {k} back"] or task.counts[f"g {k} ahead"]]
    through = [k for k in asked if task.counts[f"g {k} back back"] or task.counts[f"g {k} ahead"]]
    if len(through) < 2:
        return [seen("truncation", f"none: of {len(asked)} gradients of g {len(through)} is differentiated", True)]
    lost = [k for k in asked if k < through[-1] and k not in through]
    if not lost:
        return [seen("truncation", f"none: all {len(through)} steps are differentiated", True)]
    text = f"of {len(asked)} steps {len(lost)} carr{'ies' if len(lost) == 1 else 'y'} no gradient: {ranges(lost)}"
    return [seen("truncation", text, False)]


def ranges(numbers: list[int]) -> str:
    """Whole numbers in words, the first and the last of them where they are many."""
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole and len(numbers) > 1 else ", ".join(map(str, numbers[:8]))


def minibatches(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """How many minibatches of g one answer is made of, where each evaluation is about another, and what the mean is."""
    total, asked, calls, exact = torch.zeros(len(SIX), dtype=torch.float64), 0, 0, Quadratic(SIX)
    most = CALLS // 8 if getattr(hypergradient, "arrays", "") else CALLS  # jax compiles each of them anew
    while calls < most and (calls < CALLS // 8 or calls % 2 or asked * calls < EVALUATIONS):
        task, calls = Rows(SIX, calls), calls + 1
        total += ask(hypergradient, task)[0].detach()
        asked = max(asked, task.counts["g"])
    total /= calls
    bias = off(total, exact.exact(exact.y_star()))
    words = "one minibatch of g for the whole answer" if asked == 1 else f"{asked} minibatches of g in one answer"
    return [seen("minibatches", f"{words}; the mean of {calls} answers is off by {bias:.2g}", bias == bias)]
