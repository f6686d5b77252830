"""How x moves: one piece for every solver, so that none is compared with a better optimiser than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Update = Literal["plain", "heavy_ball", "adam", "sparse_adam"]


class Moments(NamedTuple):
    """What an update remembers, part of a solver's state."""

    k: int  # steps so far
    first: tuple[Tensor, ...] = ()  # heavy ball's and Adam's buffer, one per variable
    second: tuple[Tensor, ...] = ()  # Adam's


@dataclass(frozen=True)
class Outer:
    """The knobs of the outer step, for a solver class to inherit: x goes by lr (k + 1)^-decay times a displacement.

    plain: the direction d itself. heavy_ball: buffer = momentum buffer + d (Polyak 1964, in the form of
    ``torch.optim.SGD``). adam: Kingma, Ba, ICLR 2015, Algorithm 1, with betas (momentum, 0.999) and eps 1e-8.
    sparse_adam: Adam for the entries in which d is not 0, as ``torch.optim.SparseAdam``: the others rest, moments and
    all, which is what a variable for each example wants when a step is about a few of them.

    A solver keeps ``self.moments(x)`` (with y, too, where it moves y by the same rule) in its state and writes
    ``m, dx = self.move(s.m, direction)`` and then ``o.project_x(x - self.lr * dx)``.
    """

    lr: float = 1e-2
    update: Update = "plain"
    momentum: float = 0.9
    decay: float = 0.0

    def moments(self, *variables: Tensor) -> Moments:
        """Moments at rest, for as many variables as ``move`` will be given directions."""
        zeros = tuple(torch.zeros_like(v) for v in variables)
        return Moments(
            0,
            *{"plain": (), "heavy_ball": (zeros,), "adam": (zeros, zeros), "sparse_adam": (zeros, zeros)}[self.update],
        )

    def pace(self, m: Moments) -> float:
        """(k + 1)^-decay, the factor of this step's length; it is within the displacement that ``move`` gives."""
        return (m.k + 1.0) ** -self.decay if self.decay else 1.0

    def move(self, m: Moments, *directions: Tensor) -> Any:
        """(new moments, one displacement per direction): the variable goes by -lr times its displacement."""
        k, first, second, moved = m.k + 1, m.first, m.second, directions
        if self.update == "heavy_ball":
            first = moved = tuple(self.momentum * b + d for b, d in zip(first, directions, strict=True))
        elif self.update in ("adam", "sparse_adam"):
            a, c = self.momentum, 0.999
            before = first, second
            first = tuple(a * b + (1 - a) * d for b, d in zip(first, directions, strict=True))
            second = tuple(c * b + (1 - c) * d * d for b, d in zip(second, directions, strict=True))
            moved = tuple(
                b / (1 - a**k) / (torch.sqrt(s / (1 - c**k)) + 1e-8) for b, s in zip(first, second, strict=True)
            )
            if self.update == "sparse_adam":
                rests = [d == 0 for d in directions]
                first, second = (
                    tuple(torch.where(r, o, n) for r, o, n in zip(rests, old, new, strict=True))
                    for old, new in zip(before, (first, second), strict=True)
                )
                moved = tuple(torch.where(r, 0.0, m) for r, m in zip(rests, moved, strict=True))
        if self.decay:
            pace = self.pace(m)
            moved = tuple([pace * d for d in moved])
        return Moments(k, first, second), *moved
