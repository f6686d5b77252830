"""What the door of ``examine`` adds to a hypergradient, in CPU seconds, against the same one on bare functions.

    OMP_NUM_THREADS=1 python -m tests.campaigns.price_of_the_door [ROUNDS]

Conjugate gradients and unrolled descent on the probe's quadratic, interleaved; the median of ratios of rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilevelbench.contract import probe

SIBLING = "test_counts_are_exact_through_double_backward"


class Bare(probe.Quadratic):
    """The same functions without a door."""

    def _through(self, name: str, x: Any, y: Any, *constants: Tensor) -> tuple[Any, Any, tuple[Any, ...]]:
        return x, y, constants


def implicit(f: Any, g: Any, x: Tensor, y: Tensor) -> Tensor:
    """Ten steps of conjugate gradients."""
    fx, fy = torch.autograd.grad(f(x, y), (x, y))
    (gy,) = torch.autograd.grad(g(x, y), y, create_graph=True)
    v, r = torch.zeros_like(fy), fy
    p = r
    for _ in range(10):
        (Hp,) = torch.autograd.grad(gy, y, p, retain_graph=True)
        step = (r @ r) / (p @ Hp + 1e-300)
        v, left = v + step * p, r - step * Hp
        p = left + (left @ left) / (r @ r + 1e-300) * p
        r = left
    return fx - torch.autograd.grad(gy, x, v)[0]


def unrolled(f: Any, g: Any, x: Tensor, y: Tensor) -> Tensor:
    """Ten steps of descent."""
    for _ in range(10):
        y = y - 0.5 * torch.autograd.grad(g(x, y), y, create_graph=True)[0]
    return torch.autograd.grad(f(x, y), x)[0]


def seconds(hypergradient: Callable[..., Tensor], task: probe.Quadratic, calls: int) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    for _ in range(calls):
        probe.ask(hypergradient, task)
    return (time.process_time() - begun) / calls


def main(rounds: int = 15) -> None:
    """A line for each method and size."""
    torch.set_num_threads(1)
    for n in (6, 100, 1000):
        eigenvalues = torch.linspace(0.1, 1.0, n).tolist()
        for method in (implicit, unrolled):
            tasks = probe.Quadratic(eigenvalues), Bare(eigenvalues)
            ratios = []
            for task in tasks:
                seconds(method, task, 3)
            for _ in range(rounds):
                with_door, bare = (seconds(method, task, 20) for task in tasks)
                ratios.append(with_door / bare)
            low, _, high = statistics.quantiles(ratios, n=4)
            print(f"{method.__name__}, {n} variables: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
