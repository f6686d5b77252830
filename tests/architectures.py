"""Small networks of the kinds that people train, each with data, for problems made of modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

CLASSES = 3


class Case(NamedTuple):
    """A network, and inputs and labels for it; ``knobs`` are arguments of ``from_modules``."""

    module: nn.Module
    inputs: Tensor
    labels: Tensor
    knobs: dict[str, str]


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor) -> Tensor:
        return self.function(a)


class Residual(nn.Module):
    """conv-norm-relu twice around an identity or a 1x1 convolution; ``wide`` has norm and relu first."""

    def __init__(self, channels: int, out: int, stride: int = 1, wide: bool = False) -> None:
        super().__init__()
        first, second = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        if wide:
            parts = [
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                first,
                nn.BatchNorm2d(out),
                nn.ReLU(),
                nn.Dropout(0.3),
                second,
            ]
        else:
            parts = [first, nn.BatchNorm2d(out), nn.ReLU(), second, nn.BatchNorm2d(out)]
        self.body, self.last = nn.Sequential(*parts), nn.Identity() if wide else nn.ReLU()
        self.way = nn.Identity() if channels == out and stride == 1 else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, a: Tensor) -> Tensor:
        return self.last(self.body(a) + self.way(a))


class Recurrent(nn.Module):
    """The last output of a recurrent network, classified."""

    def __init__(self, kind: type[nn.RNNBase], **knobs: int | float | bool) -> None:
        super().__init__()
        self.cells = kind(4, 5, batch_first=True, **knobs)
        self.head = nn.Linear(5 * (2 if knobs.get("bidirectional") else 1), CLASSES)

    def forward(self, a: Tensor) -> Tensor:
        return self.head(self.cells(a)[0][:, -1])


class Transformer(nn.Module):
    """Encoder layers over tokens or patches, and their mean classified."""

    def __init__(self, embed: nn.Module, causal: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.embed, self.body = embed, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.place, self.head, self.causal = nn.Parameter(torch.zeros(16, 8)), nn.Linear(8, CLASSES), causal

    def forward(self, a: Tensor) -> Tensor:
        tokens = self.embed(a)
        n = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n, dtype=tokens.dtype) if self.causal else None
        return self.head(self.body(tokens + self.place[:n], mask=mask, is_causal=self.causal).mean(1))


class Graph(nn.Module):
    """Two graph convolutions with a fixed adjacency matrix; a row of data is a node's number."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        near = (torch.rand(nodes, nodes) < 0.3).float()
        near = near + near.T + torch.eye(nodes)
        self.register_buffer("adjacency", near / near.sum(1, keepdim=True))
        self.register_buffer("features", torch.randn(nodes, 4))
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, CLASSES)

    def forward(self, nodes: Tensor) -> Tensor:
        hidden = self.adjacency @ self.first(self.features).tanh()
        return (self.adjacency @ self.second(hidden))[nodes]


class Unet(nn.Module):
    """Down, up, and over; the mean of the pixels classified."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.up, self.c = nn.ConvTranspose2d(6, 3, 2, 2), nn.Conv2d(6, CLASSES, 3, padding=1)
        self.norm = nn.GroupNorm(3, 6)

    def forward(self, a: Tensor) -> Tensor:
        first = self.a(a).relu()
        second = self.norm(self.b(nn.functional.max_pool2d(first, 2))).relu()
        return self.c(torch.cat([first, self.up(second)], 1)).mean((2, 3))


class Lora(nn.Module):
    """A frozen layer and a trained correction of rank two."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, layer.in_features) / 2)
        self.up = nn.Parameter(torch.zeros(layer.out_features, 2))

    def forward(self, a: Tensor) -> Tensor:
        return self.layer(a) + a @ self.down.T @ self.up.T


def _met(module: nn.Module, inputs: Tensor) -> nn.Module:
    """The module after its batch norm has met data."""
    with torch.no_grad():
        module(inputs)
    return module


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def case(name: str) -> Case:
    """A network by its name in ``NAMES``, the same at each call."""
    torch.manual_seed(0)
    n = 12
    flat, image, sequence = torch.randn(n, 4), torch.randn(n, 1, 8, 8), torch.randn(n, 6, 4)
    tokens, labels = torch.randint(0, 11, (n, 7)), torch.arange(n) % CLASSES
    linear = nn.Linear(4, 6)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made: dict[str, Callable[[], tuple[nn.Module, Tensor] | tuple[nn.Module, Tensor, dict[str, str]]]] = {
        "MLP": lambda: (nn.Sequential(linear, nn.GELU(), nn.Linear(6, CLASSES)), flat),
        "CNN with batch norm": lambda: (
            _met(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *pooled, nn.Linear(4, 3)), image),
            image,
        ),
        "CNN with the batch's statistics": lambda: (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *pooled, nn.Linear(4, 3)),
            image, {"batch_norm": "batch"},
        ),
        "ResNet": lambda: (
            _met(nn.Sequential(nn.Conv2d(1, 4, 3), Residual(4, 4), Residual(4, 6, 2), *pooled, nn.Linear(6, 3)), image),
            image,
        ),
        "wide ResNet": lambda: (
            _met(nn.Sequential(nn.Conv2d(1, 4, 3), Residual(4, 8, 2, wide=True), *pooled, nn.Linear(8, 3)), image),
            image,
        ),
        "ViT": lambda: (
            Transformer(nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.Flatten(2), Apply(lambda a: a.transpose(1, 2)))), image,
            {"attention": "math"},
        ),
        "transformer language model": lambda: (
            Transformer(nn.Embedding(11, 8), causal=True), tokens, {"attention": "math"},
        ),
        "bag of embeddings": lambda: (nn.Sequential(nn.EmbeddingBag(11, 6, mode="mean"), nn.Linear(6, 3)), tokens),
        "RNN": lambda: (Recurrent(nn.RNN), sequence),
        "GRU": lambda: (Recurrent(nn.GRU), sequence),
        "LSTM": lambda: (Recurrent(nn.LSTM, num_layers=2, dropout=0.2), sequence),
        "bidirectional LSTM": lambda: (Recurrent(nn.LSTM, bidirectional=True), sequence),
        "graph network": lambda: (Graph(n), torch.arange(n)),
        "U-Net": lambda: (Unet(), image),
        "LoRA on a frozen body": lambda: (nn.Sequential(Lora(linear), nn.Tanh(), Lora(nn.Linear(6, CLASSES))), flat),
        "weight norm": lambda: (nn.Sequential(weight_norm(linear), nn.Tanh(), nn.Linear(6, CLASSES)), flat),
        "weight norm, the old one": lambda: (
            nn.Sequential(_old_weight_norm(linear), nn.Tanh(), nn.Linear(6, CLASSES)), flat,
        ),
        "spectral norm": lambda: (nn.Sequential(spectral_norm(linear), nn.Tanh(), nn.Linear(6, CLASSES)), flat),
        "spectral norm, the old one": lambda: (
            nn.Sequential(old_spectral_norm(linear), nn.Tanh(), nn.Linear(6, CLASSES)), flat,
        ),
        "layers made at the first batch": lambda: (
            _met(nn.Sequential(nn.LazyConv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES)), image), image,
        ),
        "layer and group norm": lambda: (
            nn.Sequential(nn.LayerNorm(4), linear, nn.GroupNorm(2, 6), nn.SiLU(), nn.Linear(6, CLASSES)), flat,
        ),
    }  # fmt: skip
    module, inputs, *rest = made[name]()
    return Case(module, inputs, labels, dict(*rest))


NAMES = (
    "MLP", "CNN with batch norm", "CNN with the batch's statistics", "ResNet", "wide ResNet", "ViT",
    "transformer language model", "bag of embeddings", "RNN", "GRU", "LSTM", "bidirectional LSTM", "graph network",
    "U-Net", "LoRA on a frozen body", "weight norm", "weight norm, the old one", "spectral norm",
    "spectral norm, the old one",
    "layers made at the first batch", "layer and group norm",
)  # fmt: skip


def weighed(upper: Callable[..., Tensor], lower: Callable[..., Tensor], a: Tensor, t: Tensor, rows: Tensor) -> Tensor:
    """A loss for each row, each with a weight of its own."""
    return upper(rows) * cross_entropy(lower(a), t, reduction="none")
