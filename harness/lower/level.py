"""A lower level as a question, and what an answer to it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], Tensor]
FEASIBLE = 1e-9  # of the size of its terms: violation of a constraint that counts as none


class NoAnswer(ArithmeticError):
    """The lower level has no solution at this x (it is infeasible or unbounded): one sentence, which says why."""


class Answer(NamedTuple):
    """A solution of the lower level at one x.

    y: of shape (n_y,). multipliers: of all rows of ``Level.rows``, not negative. active: which rows hold with equality.
    unique: whether y is known to be the only solution; otherwise it is the optimistic one, as far as was looked.
    """

    y: Tensor
    multipliers: Tensor
    active: Tensor
    unique: bool

    @property
    def degenerate(self) -> bool:
        """Whether a row is active without a multiplier: y* has a kink here, and its derivative is that of one side."""
        return bool((self.active & (self.multipliers <= FEASIBLE)).any())


@dataclass(frozen=True)
class Level:
    """min g(x, y) over y with h_g(x, y) <= 0 and low <= y <= high; of several solutions one with the least f(x, y).

    low, high: of shape (n_y,), infinite where there is no bound. All in float64 on the CPU, whatever x is.
    """

    f: Function
    g: Function
    h_g: Function | None
    low: Tensor
    high: Tensor

    def rows(self, x: Tensor, y: Tensor) -> Tensor:
        """All constraints as values that are to be <= 0: h_g, then finite lower bounds, then finite upper ones."""
        parts = [] if self.h_g is None else [self.h_g(x, y)]
        low, high = (torch.isfinite(bound) for bound in (self.low, self.high))
        return torch.cat([*parts, (self.low - y)[low], (y - self.high)[high]])

    def violation(self, x: Tensor, y: Tensor) -> float:
        """The largest violation of a row at (x, y); 0 where y is feasible."""
        rows = self.rows(x, y).detach()
        return max(0.0, float(rows.max())) if rows.numel() else 0.0
