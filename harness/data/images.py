"""Parts of an image set for problems that need a few hundred images: scikit-learn's digits, or MNIST."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from bilevelbench import Draw

from . import find


class Part(NamedTuple):
    """Images as rows (n, pixels) in [0, 1], and their labels, int64."""

    pixels: np.ndarray
    labels: np.ndarray


def parts(rng: Draw, data: str, sizes: tuple[int, ...], classes: tuple[int, ...] = tuple(range(10))) -> list[Part]:
    """Disjoint random parts of the images of some classes; the last part is for testing.

    ``digits`` (8x8): all parts from the 1797 images. ``mnist``: the last part from the official test file.
    """
    if data == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return _cut(rng.child("split"), pixels / 16.0, labels, sizes, classes)
    pixels, labels, test, test_labels = find.mnist()
    return [
        *_cut(rng.child("split"), pixels, labels, sizes[:-1], classes, 255.0),
        *_cut(rng.child("test"), test, test_labels, sizes[-1:], classes, 255.0),
    ]


def _cut(
    rng: Draw, pixels: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...], classes: tuple[int, ...],
    scale: float = 1.0,
) -> list[Part]:  # fmt: skip
    rows = np.flatnonzero(np.isin(labels, classes))
    if sum(sizes) > len(rows):
        raise ValueError(f"{sum(sizes)} images are asked for and {len(rows)} are there")
    order = rows[rng.permutation(len(rows)).numpy()]
    cuts = np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])
    return [Part(pixels[cut] / scale, labels[cut].astype(np.int64)) for cut in cuts]
