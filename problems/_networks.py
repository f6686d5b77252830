"""Classifiers on flat parameter vectors: softmax regression, one hidden layer, and the Penalty paper's CNN."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu

from bilevelbench import Draw, Flat

CLASSES = 10
# Kernels and channels of two convolutions (each with 2x2 max-pooling), then the fully connected layers.
LARGE = ((5, 64), (5, 128), (512, 256))  # of Mehra and Hamm on 28x28: 1.39 million parameters
SMALL = ((3, 8), (2, 16), (32, 16))  # its likeness on 8x8


@dataclass(frozen=True)
class Network:
    """logits = network(y, inputs): y of shape (size,), inputs (n, pixels) to (n, 10).

    hidden: units of the MLP. squash: its activation. tied: the last pixel's weight is the class's bias as well.
    """

    kind: Literal["linear", "mlp", "cnn"]
    pixels: int
    hidden: int = 300
    squash: Literal["tanh", "sigmoid"] = "tanh"
    tied: bool = False

    @property
    def flat(self) -> Flat:
        """The shapes of weights and biases."""
        if self.kind == "linear":
            return Flat((CLASSES, self.pixels)) if self.tied else Flat((CLASSES, self.pixels), (CLASSES,))
        if self.kind == "mlp":
            return Flat((self.hidden, self.pixels), (self.hidden,), (CLASSES, self.hidden), (CLASSES,))
        (k1, c1), (k2, c2), full = self._layers
        edge = ((self._side - k1 + 1) // 2 - k2 + 1) // 2
        widths = (c2 * edge * edge, *full, CLASSES)
        convolutions = [(c1, 1, k1, k1), (c1,), (c2, c1, k2, k2), (c2,)]
        return Flat(*convolutions, *(s for a, b in itertools.pairwise(widths) for s in ((b, a), (b,))))

    @property
    def _side(self) -> int:
        return int(self.pixels**0.5)

    @property
    def _layers(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        return LARGE if self._side >= 28 else SMALL

    def start(self, rng: Draw) -> Tensor:
        """Zeros for softmax regression; else weights of variance 1/inputs (2/inputs before ReLU), biases zero."""
        shapes = self.flat.shapes
        if self.kind == "linear":
            return torch.zeros(self.flat.size, dtype=torch.float64)
        parts = []
        for shape in shapes:
            inputs = torch.Size(shape[1:]).numel()
            gain = 2 if self.kind == "cnn" and shape[0] != CLASSES else 1
            parts.append(rng.normal(*shape) * (gain / inputs) ** 0.5 if len(shape) > 1 else torch.zeros(shape).double())
        return Flat.join(parts)

    def __call__(self, y: Tensor, inputs: Tensor) -> Tensor:
        """Logits (n, 10)."""
        weight, *more = self.flat.split(y)
        if self.kind == "linear":
            return torch.addmm(weight[:, -1] if self.tied else more[0], inputs, weight.T)
        if self.kind == "mlp":
            squash = torch.tanh if self.squash == "tanh" else torch.sigmoid
            return torch.addmm(more[2], squash(torch.addmm(more[0], inputs, weight.T)), more[1].T)
        bias, weight2, bias2, *full = more
        image = inputs.view(-1, 1, self._side, self._side)
        image = max_pool2d(relu(conv2d(image, weight, bias)), 2)
        out = max_pool2d(relu(conv2d(image, weight2, bias2)), 2).flatten(1)
        for i in range(0, len(full), 2):
            out = torch.addmm(full[i + 1], relu(out) if i else out, full[i].T)
        return out
