"""The networks of the scaling figure: of any size, on classes that can be learnt, with a weight for each row above."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bilevelbench.core.draw import Draw
from bilevelbench.core.modules import from_modules
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import built

ROWS, CLASSES, PIXELS, TOKENS, WORDS = 32, 10, 64, 8, 64
MEANS = 0.7  # of the classes, beside noise of 1
LABELS = torch.arange(2 * ROWS) % CLASSES  # of all rows


class Attending(nn.Module):
    """Two blocks of attention and a perceptron over ``TOKENS`` tokens, their mean classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.heads, self.last = nn.Embedding(WORDS, width), max(1, width // 32), nn.Linear(width, CLASSES)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width), "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width),
                    "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width),
                    "second": nn.LayerNorm(width),
                }
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of (n, TOKENS) tokens."""
        h = self.embed(tokens)
        for block in self.blocks:
            parts: Any = block
            n, length, width = h.shape
            q, k, v = parts["qkv"](parts["norm"](h)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            h = h + parts["out"]((weights @ v).transpose(1, 2).reshape(n, length, width))
            h = h + parts["down"](torch.tanh(parts["up"](parts["second"](h))))
        return self.last(h.mean(1))


def network(kind: str, size: int) -> tuple[nn.Module, Tensor]:
    """A network of about so many parameters, and its inputs."""
    torch.manual_seed(0)
    if kind == "mlp":
        width = max(4, round((-(PIXELS + CLASSES) + ((PIXELS + CLASSES) ** 2 + 4 * size) ** 0.5) / 2))
        made = nn.Sequential(
            nn.Linear(PIXELS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, CLASSES)
        )
        return made, MEANS * torch.randn(CLASSES, PIXELS)[LABELS] + torch.randn(2 * ROWS, PIXELS)
    width = max(4, round((size / 24) ** 0.5))
    heads = max(1, width // 32)
    common = torch.rand(CLASSES, WORDS).pow(6)[LABELS]  # each class has words that it prefers
    return Attending(max(4, width // heads * heads)), torch.multinomial(common, TOKENS, replacement=True)


class Weights(nn.Module):
    """One weight in (0, 1) for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(ROWS))

    def forward(self, rows: Tensor) -> Tensor:
        """Of some rows."""
        return torch.sigmoid(self.logit[rows])


def problem(kind: str, size: int, device: str) -> Problem:
    """Weights above, the network below; classes that can be learnt, and a third of the labels below are wrong."""
    return built(_problem, {"kind": kind, "size": size}, Draw(0, device, torch.float32), kind)


def _problem(rng: Draw, kind: str, size: int) -> Problem:
    lower, inputs = network(kind, size)
    wrong = LABELS[:ROWS].clone()
    wrong[::3] = (wrong[::3] + 1) % CLASSES
    return from_modules(
        rng, Weights(), lower, [(inputs[ROWS:], LABELS[ROWS:])],
        [(inputs[:ROWS], wrong, torch.arange(ROWS))],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t, rows: upper(rows) * cross_entropy(lower(a), t, reduction="none"),
    )  # fmt: skip
