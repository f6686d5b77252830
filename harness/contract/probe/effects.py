"""What a call leaves behind, and what it costs."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import Tensor

from .tasks import Hypergradient, Quadratic, ask, off, seen


def effects(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """What a call leaves behind: at its points, at parameters that f and g hold, in memory; and whether it repeats."""
    task = Quadratic([0.5, 0.8, 1.0])
    begin = task.y_star() + 0.5
    got, x, y = ask(hypergradient, task, begin)
    left = [f"{name}.grad is set" for name, point in (("x", x), ("y", y)) if point.grad is not None]
    handed = (("x", x, task.x), ("y", y, begin))
    left += [f"{name} is changed" for name, point, was in handed if not torch.equal(point, was)]
    left += ["the gradient of a parameter of f and g is set"] * (task.weight.grad is not None)
    graph = got.grad_fn is not None
    found = [
        seen("side effects", "; ".join(left) or "none", not left),
        seen("graph of the answer", "kept: detach it, or memory grows over iterations" if graph else "none", not graph),
    ]
    again = ask(hypergradient, task, begin)[0]
    same = torch.allclose(got, again, rtol=1e-12, atol=0, equal_nan=True)
    found.append(seen("a second call", "the same answer" if same else f"differs by {off(again, got):.2g}", same))
    before = _tensors()
    for _ in range(5):
        ask(hypergradient, task, begin)
    grown = (_tensors() - before) / 5
    return [*found, seen("tensors left behind", f"{grown:g} a call", grown < 1)]


def _tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())  # isinstance would wake lazy modules


def cost(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """Evaluations of f and g and passes back through them, in 6 variables."""
    task = Quadratic([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
    ask(hypergradient, task)
    c = task.counts
    words = {"": "evaluations", " back": "passes back", " back back": "through those", " ahead": "ahead"}
    if getattr(hypergradient, "arrays", ""):
        words = {"": "evaluations traced"}
    parts = (f"{name}: " + ", ".join(f"{c[name + key]} {word}" for key, word in words.items()) for name in "fg")
    return [seen("cost", "; ".join(parts), True)]
