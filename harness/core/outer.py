"""How x and y move: one piece for every solver, so that none is compared with a better optimiser than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Update = Literal["plain", "heavy_ball", "adam", "sparse_adam"]


class Moments(NamedTuple):
    """What an update remembers, part of a solver's state: ``k``, ``first`` and ``second``.

    The tensors have the shapes of the variables that are moved.
    """

    k: int  # steps so far; an ``Inner`` that moves plainly does not count them
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
    ``m, dx = self.move(s.m, direction)`` and then ``o.project_x(x - self.lr * dx)``. Directions and displacements have
    the shapes of their variables, x (n_x,) and y (n_y,).

    Parameters
    ----------
    lr
        The step on x.
    update
        One of the four rules above.
    momentum
        Heavy ball's factor, or Adam's first beta.
    decay
        Power with which steps become shorter; 0: they stay.
    """

    lr: float = 1e-2  # step on x
    update: Update = "plain"  # rule by which x moves
    momentum: float = 0.9  # heavy ball's factor, or Adam's first beta
    decay: float = 0.0  # steps go as (k + 1)^-decay

    def moments(self, *variables: Tensor) -> Moments:
        """Moments at rest, for as many ``variables`` as ``move`` will be given directions."""
        return _at_rest(self.update, variables)

    def pace(self, m: Moments) -> float:
        """(k + 1)^-decay, the factor of this step's length, ``m`` being the moments so far; it is within the
        displacement that ``move`` gives."""
        return (m.k + 1.0) ** -self.decay if self.decay else 1.0

    def move(self, m: Moments, *directions: Tensor) -> Any:
        """(new moments, one displacement per direction), from the moments ``m`` and the ``directions``: the variable
        goes by -lr times its displacement."""
        after, moved = Moments(m.k + 1), directions
        if self.update != "plain":
            after, moved = _displaced(self.update, self.momentum, m, directions)
        if self.decay:
            pace = self.pace(m)
            moved = tuple([pace * d for d in moved])
        return after, *moved


@dataclass(frozen=True)
class Inner:
    """The knobs of the steps on y, for a solver class to inherit beside ``Outer``: the same updates.

    What is remembered outlives an outer step, as an optimiser object does in the codes of the field (Mehra, Hamm 2021;
    Liu et al. 2022). A solver keeps ``self.moments_y(y)`` in its state and writes
    ``m_y, y = self.move_y(m_y, y, self.lr_inner, direction)`` and then ``y = o.project_y(y)``; y and the direction have
    the shape (n_y,).

    Parameters
    ----------
    update_y, momentum_y
        As ``update`` and ``momentum`` of ``Outer``.
    """

    update_y: Update = "plain"  # rule by which y moves
    momentum_y: float = 0.9  # heavy ball's factor, or Adam's first beta

    def moments_y(self, y: Tensor) -> Moments:
        """Moments at rest."""
        return _at_rest(self.update_y, (y,))

    def move_y(self, m: Moments, y: Tensor, lr: float | Tensor, direction: Tensor) -> tuple[Moments, Tensor]:
        """(new moments, y - lr times the displacement of ``direction``), not yet projected, from the moments ``m``.
        Beside y two vectors are held."""
        if self.update_y != "plain":
            m, (direction,) = _displaced(self.update_y, self.momentum_y, m, (direction,))
        direction = lr * direction
        return m, y - direction


Tensors = tuple[Tensor, ...]


def _at_rest(update: Update, variables: Tensors) -> Moments:
    buffers = {"plain": 0, "heavy_ball": 1}.get(update, 2)
    return Moments(0, *(tuple(torch.zeros_like(v) for v in variables) for _ in range(buffers)))


def _displaced(update: Update, momentum: float, m: Moments, directions: Tensors) -> tuple[Moments, Tensors]:
    k, first, second = m.k + 1, m.first, m.second
    if update == "heavy_ball":
        first = moved = tuple(momentum * b + d for b, d in zip(first, directions, strict=True))
    else:
        a, c = momentum, 0.999
        first = tuple(a * b + (1 - a) * d for b, d in zip(first, directions, strict=True))
        second = tuple(c * b + (1 - c) * d * d for b, d in zip(second, directions, strict=True))
        moved = tuple(b / (1 - a**k) / (torch.sqrt(s / (1 - c**k)) + 1e-8) for b, s in zip(first, second, strict=True))
    if update == "sparse_adam":
        rests = tuple(d == 0 for d in directions)
        first, second = _where(rests, m.first, first), _where(rests, m.second, second)
        moved = _where(rests, tuple(torch.zeros_like(d) for d in moved), moved)
    return Moments(k, first, second), moved


def _where(rests: Tensors, then: Tensors, now: Tensors) -> Tensors:
    return tuple(torch.where(rest, a, b) for rest, a, b in zip(rests, then, now, strict=True))
