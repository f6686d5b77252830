"""Data poisoning as the code of the Penalty paper poses it: rows, poison images and a model without bias."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from bilevelbench import Draw
from bilevelbench.data import find
from bilevelbench.data.images import Part

SOURCE, TARGET = 8, 3  # of the targeted attack
UNTARGETED = {"digits": (300, 300, 1000), "mnist": (1000, 1000, 8000)}  # training, validation, test
TARGETED = {"digits": (300, 300, 600), "mnist": (1000, 4000, 5000)}  # each with as many rows of every class
AMONG = {"digits": 600, "mnist": 2000}  # rows from the front that a targeted attack's training images are among


class Attack(NamedTuple):
    """The images of all parties; ``start`` (k, pixels) are the poison images at x0, ``labels`` are theirs and stay."""

    train: Part
    validation: Part
    test: Part
    start: np.ndarray
    labels: np.ndarray


def released(rng: Draw, data: str, goal: str, share: float) -> Attack:
    """All images from the training file but a targeted attack's test images; poison starts as training images.

    Untargeted: the first of them, each with another random label. Targeted: threes called 8 and eights called 3, half
    of each.
    """
    pixels, labels, test, test_labels = _files(data)
    order = rng.child("split").permutation(len(labels)).numpy()
    pixels, labels = pixels[order], labels[order]
    draw = rng.child("poison").numpy
    if goal == "untargeted":
        k = max(1, round(share * UNTARGETED[data][0]))
        train, validation, tested = _cut(pixels, labels, UNTARGETED[data])
        wrong = (train.labels[:k] + draw.integers(1, 10, k)) % 10
        return Attack(train, validation, tested, train.pixels[:k], wrong)
    sizes, front = TARGETED[data], AMONG[data]
    k = max(2, round(share * sizes[0]))
    train = _balanced(draw, pixels[:front], labels[:front], sizes[0])
    back = slice(front, None) if data == "mnist" else slice(front, front + (len(labels) - front) // 3)
    validation = _balanced(draw, pixels[back], labels[back], sizes[1])
    if data == "digits":
        test, test_labels = pixels[back.stop :], labels[back.stop :]
    tested = _balanced(draw, test, test_labels, sizes[2])
    threes, eights = (np.flatnonzero(train.labels == digit) for digit in (TARGET, SOURCE))
    copied = np.r_[threes[: k - k // 2], eights[: k // 2]]
    wrong = np.where(train.labels[copied] == TARGET, SOURCE, TARGET)
    return Attack(train, validation, tested, train.pixels[copied], wrong)


def _files(data: str) -> find.Images:
    """Training images in [0, 1] and labels, then the test ones; the digits have none of their own."""
    if data == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return pixels / 16.0, labels.astype(np.int64), pixels[:0], labels[:0]
    pixels, labels, test, test_labels = find.mnist()
    return pixels / 255.0, labels.astype(np.int64), test / 255.0, test_labels.astype(np.int64)


def _cut(pixels: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...]) -> list[Part]:
    ends = np.cumsum(sizes)
    return [Part(pixels[b - n : b], labels[b - n : b]) for n, b in zip(sizes, ends, strict=True)]


def _balanced(draw: np.random.Generator, pixels: np.ndarray, labels: np.ndarray, n: int) -> Part:
    """A tenth of ``n`` rows of each class, or all that there are, in random order."""
    each = [draw.permutation(np.flatnonzero(labels == digit))[: n // 10] for digit in range(10)]
    chosen = draw.permutation(np.concatenate(each))
    return Part(pixels[chosen], labels[chosen])
