"""Ten small problems with networks below, of different layers: an upper network weighs the rows of the lower loss."""

from __future__ import annotations

import dataclasses

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bilevelbench import Draw, Problem, from_modules

SIBLING = "test_a_re_solve_of_ones_own_agrees_with_the_judge"

ROWS, CLASSES = 60, 4


class Tokens(nn.Module):
    """Rows of an image as a sequence of eight tokens of eight features, read by a layer, averaged, then classified."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        read = self.layer(images[:, 0])
        return self.head((read[0] if isinstance(read, tuple) else read).mean(1))


class Attention(nn.Module):
    """One head of attention, written out, so that it has second derivatives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, width) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Mixed tokens."""
        scores = self.q(tokens) @ self.k(tokens).transpose(1, 2) / self.q.out_features**0.5
        return torch.softmax(scores, 2) @ self.v(tokens)


class Residual(nn.Module):
    """A block with a way around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.inner = (
            nn.Linear(64, width),
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()),
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        first = self.first(images.flatten(1))
        return self.head(first + self.inner(first))


def dense(activation: nn.Module, *widths: int) -> nn.Module:
    """Layers of these widths with an activation between."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip((64, *widths), (*widths, CLASSES), strict=True):
        layers += [nn.Linear(before, after), activation]
    return nn.Sequential(*layers[:-1])


LOWER = {
    "tanh": lambda: dense(nn.Tanh(), 6),
    "relu": lambda: dense(nn.ReLU(), 6),
    "gelu, two layers": lambda: dense(nn.GELU(), 6, 5),
    "softplus": lambda: dense(nn.Softplus(), 8),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.ELU(), nn.Flatten(), nn.Linear(27, CLASSES)
    ),
    "convolution and pooling": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, CLASSES)
    ),
    "recurrent": lambda: Tokens(nn.RNN(8, 6, batch_first=True), 6),
    "gated": lambda: Tokens(nn.GRU(8, 4, batch_first=True), 4),
    "attention": lambda: Tokens(Attention(5), 5),
    "residual": lambda: Residual(6),
}  # fmt: skip

WIDE = {  # too many variables for a Hessian as a matrix
    "convolutions, 1e5": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 72), nn.ReLU(), nn.Linear(72, CLASSES),
    ),
    "dense, 1e4": lambda: dense(nn.GELU(), 96, 48),
    "gated, 5e3": lambda: Tokens(nn.GRU(8, 36, batch_first=True), 36),
}  # fmt: skip


def network(name: str, seed: int = 0) -> Problem:
    """The problem with this network below. A quarter of the labels of the lower rows is wrong."""
    rng = Draw(seed)
    digits = load_digits(n_class=CLASSES)
    order = rng.numpy.permutation(len(digits.target))
    images, labels = torch.tensor(digits.images / 16)[order, None].double(), torch.tensor(digits.target)[order]
    noisy = labels[:ROWS].clone()
    noisy[::4] = (noisy[::4] + 1) % CLASSES
    torch.manual_seed(seed)
    upper = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid())

    def lower_loss(upper, lower, images, labels):  # type: ignore[no-untyped-def]
        loss = cross_entropy(lower(images), labels, reduction="none")
        return upper(loss[:, None])[:, 0] * loss

    made = from_modules(
        rng, upper.double(), (LOWER | WIDE)[name]().double(), [(images[ROWS : 2 * ROWS], labels[ROWS : 2 * ROWS])],
        [(images[:ROWS], noisy)], lambda upper, lower, x, t: cross_entropy(lower(x), t), lower_loss, decay=1e-2,
    )  # fmt: skip
    return dataclasses.replace(made, phi_at="every look") if name in LOWER else made
