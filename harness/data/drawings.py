"""Few-shot classification of small images: tasks, a convolutional body, and three lower levels on it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, normalize

from bilevelbench import Draw, Flat
from bilevelbench.core.batches import generator

from . import find

QUERY, DRAWINGS = 15, 20  # images of a class that judge a head (at most), and all that there are
TRAINING = {"omniglot": 1200, "planted": 40}  # characters that train; the rest (423, 20) makes the test tasks
SCALE = 10.0  # of cosine logits


@dataclass(frozen=True)
class Tasks:
    """Images (tasks, n, side, side) in [0, 1] and their labels (n,), the same in every task; rows go class by class."""

    support: Tensor
    query: Tensor
    labels: Tensor
    query_labels: Tensor
    characters: np.ndarray  # (tasks, ways): numbers of classes, for training on all of them at once


def drawn(
    rng: Draw, dataset: Literal["planted", "omniglot"], side: int, tasks: int, test: int, ways: int, shots: int
) -> tuple[Tasks, Tasks]:
    """Training tasks and test tasks on other characters. A class is a character turned by 0, 90, 180 or 270 degrees."""
    images = find.omniglot(side) if dataset == "omniglot" else _planted(rng, side)
    order = rng.child("characters").permutation(len(images)).numpy()
    train, rest = order[: TRAINING[dataset]], order[TRAINING[dataset] :]
    made = _tasks(rng.child("tasks"), images, train, tasks, ways, shots)
    return made, _tasks(rng.child("test"), images, rest, test, ways, shots)


def _planted(rng: Draw, side: int) -> np.ndarray:
    """60 characters: blots of ink, each drawn 20 times with a shift of at most three pixels and grey noise."""
    draw = rng.child("drawings").numpy
    field = gaussian_filter(draw.standard_normal((60, side, side)), (0, 1.5, 1.5))
    ink = 255.0 * (field > np.quantile(field, 0.7, axis=(1, 2), keepdims=True))
    shifts = draw.integers(-3, 4, (60, DRAWINGS, 2))
    moved = [
        [np.roll(character, tuple(shift), (0, 1)) for shift in row] for character, row in zip(ink, shifts, strict=True)
    ]
    return np.clip(np.array(moved) + draw.normal(0, 40, (60, DRAWINGS, side, side)), 0, 255).astype(np.uint8)


def _tasks(rng: Draw, images: np.ndarray, characters: np.ndarray, tasks: int, ways: int, shots: int) -> Tasks:
    draw, query = rng.numpy, min(QUERY, DRAWINGS - shots)
    parts, classes = [], []
    for _ in range(tasks):
        chosen, turns = draw.choice(characters, ways, replace=False), draw.integers(0, 4, ways)
        drawings = [draw.permutation(DRAWINGS)[: shots + query] for _ in range(ways)]
        parts.append([np.rot90(images[c][d], k, (1, 2)) for c, d, k in zip(chosen, drawings, turns, strict=True)])
        classes.append(4 * chosen + turns)
    whole = torch.from_numpy(np.array(parts) / 255.0)  # (tasks, ways, drawings, side, side)
    numbers = torch.arange(ways)
    return Tasks(
        whole[:, :, :shots].flatten(1, 2), whole[:, :, shots:].flatten(1, 2),
        numbers.repeat_interleave(shots), numbers.repeat_interleave(query), np.array(classes),
    )  # fmt: skip


@dataclass(frozen=True)
class Episodes:
    """Tasks without end: task t is a function of (seed, t), drawn when it is asked for.

    images: (4 characters x 20, side, side), uint8, a character's drawings in four turns. classes: numbers of the turned
    characters that tasks are made of.
    """

    images: Tensor
    classes: np.ndarray
    seed: int
    name: str
    ways: int
    shots: int

    @classmethod
    def of(
        cls, rng: Draw, dataset: Literal["planted", "omniglot"], side: int, ways: int, shots: int, test: bool
    ) -> Episodes:
        """Those of the training characters, or of the others."""
        images = find.omniglot(side) if dataset == "omniglot" else _planted(rng, side)
        order = rng.child("characters").permutation(len(images)).numpy()
        chosen = order[TRAINING[dataset] :] if test else order[: TRAINING[dataset]]
        turned = np.stack([np.rot90(images[chosen], k, (2, 3)) for k in range(4)])
        kept = rng.put(np.ascontiguousarray(turned).reshape(-1, side, side))
        return cls(kept, np.arange(4 * len(chosen)), rng.seed, "test" if test else "train", ways, shots)

    def __call__(self, part: Literal["support", "query"], rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Images (tasks, n, side, side) in [0, 1] of the tasks ``rows`` (tasks,), and their labels (n,)."""
        places = np.stack([_places(self.seed, self.name, t, len(self.classes), self.ways) for t in rows.tolist()])
        query = min(QUERY, DRAWINGS - self.shots)
        span = slice(self.shots) if part == "support" else slice(self.shots, self.shots + query)
        chosen = torch.from_numpy(places[:, :, span].reshape(len(places), -1)).to(self.images.device)
        each = self.shots if part == "support" else query
        return self.images[chosen].to(dtype) / 255, torch.arange(self.ways, device=chosen.device).repeat_interleave(
            each
        )


@functools.lru_cache(maxsize=256)  # a step asks for its tasks many times
def _places(seed: int, name: str, t: int, classes: int, ways: int) -> np.ndarray:
    """Where the drawings of task t lie, (ways, 20): the first ones support."""
    draw = generator(seed, f"episode {name}", t, 0)
    chosen = draw.choice(classes, ways, replace=False)
    return np.stack([DRAWINGS * c + draw.permutation(DRAWINGS) for c in chosen])


@dataclass(frozen=True)
class Body:
    """Four 3x3 convolutions of stride 2, each normalised over the channels and pixels of its own image.

    Layer norm without scale and shift, in place of the papers' batch norm: an image is judged by itself, never by the
    other queries of its task (which would be transductive).
    """

    side: int
    width: int
    squash: Callable[[Tensor], Tensor]

    @property
    def flat(self) -> Flat:
        """Shapes of kernels and biases."""
        channels = (1, *[self.width] * 4)
        return Flat(*(s for a, b in itertools.pairwise(channels) for s in ((b, a, 3, 3), (b,))))

    @property
    def features(self) -> int:
        """Numbers that describe an image, the constant one among them."""
        edge = self.side
        for _ in range(4):
            edge = (edge + 1) // 2
        return self.width * edge * edge + 1

    def start(self, rng: Draw) -> Tensor:
        """Kernels of variance 1/inputs, biases zero."""
        return Flat.join(
            rng.normal(*s) / (s[1] * 9) ** 0.5 if len(s) > 1 else torch.zeros(s).double() for s in self.flat.shapes
        )

    def __call__(self, weights: Tensor, images: Tensor) -> Tensor:
        """Features (tasks, n, features) of images (tasks, n, side, side); weights (size,), or (tasks, size)."""
        tasks, n = images.shape[:2]
        own = weights.ndim == 2
        groups = tasks if own else 1
        out = images.transpose(0, 1) if own else images.reshape(-1, 1, self.side, self.side)
        parts = torch.split(weights.view(groups, -1), self.flat.sizes, 1)
        for k in range(0, len(parts), 2):
            shape = self.flat.shapes[k]
            kernel, bias = parts[k].reshape(-1, *shape[1:]), parts[k + 1].reshape(-1)
            out = conv2d(out, kernel, bias, stride=2, padding=1, groups=groups)
            each = out.unflatten(1, (groups, self.width))
            mean = each.mean((2, 3, 4), keepdim=True)
            scale = torch.rsqrt((each - mean).square().mean((2, 3, 4), keepdim=True) + 1e-5)
            out = self.squash((each - mean) * scale).flatten(1, 2)
        out = out.unflatten(1, (groups, self.width)).flatten(2)  # (n, tasks, .) or (tasks * n, 1, .)
        out = out.transpose(0, 1) if own else out.view(tasks, n, -1)
        return torch.cat([out, torch.ones_like(out[..., :1])], -1)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each task, (tasks,), from logits (tasks, n, ways)."""
    tasks, n, ways = logits.shape
    flat = cross_entropy(logits.reshape(-1, ways), labels.repeat(tasks), reduction="none")
    return flat.view(tasks, n).mean(1)


def linear(features: Tensor, heads: Tensor) -> Tensor:
    """Logits (tasks, n, ways) of features (tasks, n, k) and heads (tasks, ways, k)."""
    return features @ heads.mT


def cosine(features: Tensor, heads: Tensor) -> Tensor:
    """Ten times the cosine between the features (the constant left out) and each row of the heads."""
    return SCALE * normalize(features[..., :-1], dim=-1) @ normalize(heads, dim=-1).mT
