"""A network whose hidden units a controller scales and shifts for each task (FiLM): of ``continual`` and its stream."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Draw, Flat

EMBEDDING = 4  # numbers that describe a task to the controller


class Net(NamedTuple):
    """Base network y = (W1, b1, W2, b2) with one hidden layer; controller x = (task embeddings, map, map's bias)."""

    tasks: int
    hidden: int
    base: Flat
    controller: Flat

    @classmethod
    def of(cls, tasks: int, hidden: int, pixels: int) -> Net:
        """The network for so many tasks, hidden units and pixels, with ten classes."""
        base = Flat((hidden, pixels), (hidden,), (10, hidden), (10,))
        return cls(tasks, hidden, base, Flat((tasks, EMBEDDING), (2 * hidden, EMBEDDING), (2 * hidden,)))

    def start(self, rng: Draw) -> tuple[Tensor, Tensor]:
        """A controller that changes nothing yet (map zero, embeddings random), a random network."""
        draw = rng.child("start")
        codes = draw.normal(self.tasks, EMBEDDING)
        y0 = [draw.normal(*shape) / shape[-1] ** 0.5 * (len(shape) > 1) for shape in self.base.shapes]
        rest = codes.new_zeros(self.controller.size - codes.numel())
        return torch.cat([codes.reshape(-1), rest]), Flat.join(y0)

    def logits(self, x: Tensor, y: Tensor, inputs: Tensor, task: Tensor) -> Tensor:
        """Scores of images (n, pixels), each for its task (n,): hidden units h become scale h + shift (FiLM)."""
        codes, matrix, bias = self.controller.split(x)
        scale, shift = (codes @ matrix.T + bias).view(self.tasks, 2, self.hidden).unbind(1)
        first, b1, second, b2 = self.base.split(y)
        h = torch.tanh(torch.addmm(b1, inputs, first.T))
        return torch.addmm(b2, (1 + scale[task]) * h + shift[task], second.T)
