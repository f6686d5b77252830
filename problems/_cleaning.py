"""The protocols of hyper-cleaning: which rows, which noise, which weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bilevelbench import Draw
from bilevelbench.data import find


@dataclass(frozen=True)
class Protocol:
    """One way in which the problem has been posed.

    sizes, digits: rows that train, validate and test, of MNIST and of scikit-learn's digits. rows: as they lie in the
    file, or drawn. official: MNIST's test set, else rows of the training file. redrawn: a noisy label is uniform on
    all ten (one in ten stays right), else on the nine others. first: the first rows are the noisy ones, else rows
    drawn. weight: of an example, by ``WEIGHTS``. start: weights at x0; None: 0.6 where a classifier of the validation
    set agrees with the label, else 0.4. normalised: g divides by the sum of the weights, else by their number. held:
    rows of a second validation set, by which a checkpoint is picked, of MNIST and of the digits; the start is then
    trained as the authors' code does. batch: rows of each of f and g that one outer step is about, of MNIST and of the
    digits; 0: all rows.
    """

    sizes: tuple[int, int, int]
    digits: tuple[int, int, int]
    rows: Literal["file", "drawn"]
    official: bool
    redrawn: bool
    first: bool
    weight: Literal["sigmoid", "clip", "tanh"]
    start: float | None
    decay: float
    normalised: bool
    standardised: bool
    held: tuple[int, int] = (0, 0)
    batch: tuple[int, int] = (0, 0)


PROTOCOLS = {
    "recommended": Protocol(
        (5000, 5000, 10000), (600, 600, 597), "file", True, False, False, "sigmoid", 0.5, 1e-3, False, False
    ),
    "as_in_bome": Protocol(
        (50000, 5000, 10000), (1200, 150, 297), "drawn", True, True, False, "clip", 0.5, 1e-3, False, True
    ),
    "as_in_penalty_small": Protocol(
        (5000, 5000, 10000), (600, 600, 597), "file", True, False, True, "tanh", None, 0.0, True, False
    ),
    "as_in_penalty_large": Protocol(
        (59000, 1000, 10000), (1400, 100, 297), "file", True, False, True, "tanh", None, 0.0, True, False
    ),
    "as_in_vpbgd": Protocol(
        (5000, 5000, 10000), (600, 600, 597), "drawn", False, True, False, "sigmoid", 0.5, 0.0, False, False
    ),
}

# As the authors' code does it, see ``hyper_cleaning``.
PROTOCOLS |= {
    "bome_released": replace(PROTOCOLS["as_in_bome"], held=(5000, 150)),
    "penalty_small_released": replace(PROTOCOLS["as_in_penalty_small"], batch=(200, 40)),
    "penalty_large_released": replace(PROTOCOLS["as_in_penalty_large"], batch=(200, 40)),
}

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "clip": lambda x: torch.clamp(x, 0, 1),
    "tanh": lambda x: (torch.tanh(x) + 1) / 2,
}
INVERSE: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.logit,
    "clip": torch.clone,
    "tanh": lambda w: torch.atanh(2 * w - 1),
}


@dataclass(frozen=True)
class Split:
    """Inputs (n, pixels) and labels of the sets; ``noisy`` are the training labels as given.

    ``held`` picks a checkpoint and has no rows where a protocol picks none.
    """

    train: np.ndarray
    labels: np.ndarray
    noisy: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray


def split(rng: Draw, data: Literal["digits", "mnist", "fashion"], protocol: Protocol, noise: float) -> Split:
    """The three sets of a protocol. The digits are always drawn, in the protocol's sizes for them."""
    small = data == "digits"
    (train, validate, last), k = (protocol.digits if small else protocol.sizes), protocol.held[small]
    if small:
        pixels, labels = load_digits(return_X_y=True)
    else:
        pixels, labels, official, official_labels = find.mnist() if data == "mnist" else find.fashion()
    if small or protocol.rows == "drawn":
        order = rng.child("split").permutation(len(labels)).numpy()
        pixels, labels = pixels[order], labels[order]
    test, test_labels = pixels[train + validate :][-last:], labels[train + validate :][-last:]
    if not small and protocol.official:
        test, test_labels = official, official_labels
    held = slice(train + validate, train + validate + k)
    white = 16.0 if small else 255.0
    parts = [part / white for part in (pixels[:train], pixels[train : train + validate], test, pixels[held])]
    if protocol.standardised:
        mean, std = parts[0].mean(), parts[0].std() + 1e-4
        parts = [(part - mean) / std for part in parts]
    labels, test_labels = labels.astype(np.int64), test_labels.astype(np.int64)
    clean = labels[:train]
    noisy = corrupt(rng.numpy, clean, noise, protocol.redrawn, protocol.first)
    return Split(
        parts[0], clean, noisy, parts[1], labels[train : train + validate], parts[2], test_labels, parts[3],
        labels[held],
    )  # fmt: skip


def corrupt(
    rng: np.random.Generator, labels: np.ndarray, noise: float, redrawn: bool = False, first: bool = False
) -> np.ndarray:
    """The share ``noise`` of the labels replaced: each by another class, or redrawn from all ten."""
    n = round(noise * len(labels))
    chosen = np.arange(n) if first else rng.permutation(len(labels))[:n]
    noisy = labels.copy()
    noisy[chosen] = rng.integers(0, 10, n) if redrawn else (labels[chosen] + rng.integers(1, 10, n)) % 10
    return noisy
