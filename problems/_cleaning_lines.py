"""The lines that hyper-cleaning is compared with, each trained to convergence without any bilevel method."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from torch import Tensor

from bilevelbench import Draw
from bilevelbench.data import cache

from . import _train
from ._cleaning import WEIGHTS, Protocol, Split
from ._networks import Network

TRAINING = 1e-3  # decay of classifiers that are trained where a protocol has none


def references(
    rng: Draw,
    knobs: tuple[str, str, float, str],
    how: Protocol,
    parts: Split,
    network: Network,
    y0: Tensor,
    x0: Tensor,
    version: int,
) -> cache.Lines:
    """Validation loss and test accuracy of five lines, each trained to convergence; kept in the user cache.

    The lower level of every line is solved by L-BFGS in float64 until no entry of its gradient is above 1e-7, or for
    5000 iterations; 500 for a network, whose stationary point it is. A protocol without decay need not have a minimum
    to reach, and what L-BFGS meets on the way generalises badly: the lines then take a decay of 1e-3, which is harder
    to beat. How far each came is kept beside it. The CNN has lines on the digits only, on MNIST they take hours, and so
    have the protocols of released code, which are held against what their papers print.
    """
    data, model, noise, protocol = knobs
    if data != "digits" and (model == "cnn" or how.held[0] or how.batch[0]):
        return {}
    decay, maxiter = how.decay or TRAINING, 5000 if model == "linear" else 500
    clean, n = (parts.noisy == parts.labels).astype(float), len(parts.labels)
    both = np.concatenate([parts.train[clean > 0], parts.validation])
    both_labels = np.concatenate([parts.labels[clean > 0], parts.validation_labels])
    lines = {
        "noisy labels": (parts.train, parts.noisy, np.ones(n)),
        "weights at the start": (parts.train, parts.noisy, WEIGHTS[how.weight](x0).numpy()),
        "clean mask (oracle)": (parts.train, parts.noisy, clean),
        "validation only": (parts.validation, parts.validation_labels, np.ones(len(parts.validation))),
        "clean mask + validation": (both, both_labels, np.ones(len(both))),
    }

    def solve(
        name: str, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> tuple[cache.Lines, dict[str, object]]:
        if how.normalised:
            weights = weights / max(weights.mean(), 1 / n)  # all labels may be wrong
        y, residual = _train.classifier(network, y0, inputs, labels, weights, decay, maxiter)
        loss, _ = _train.score(network, y, parts.validation, parts.validation_labels)
        accuracy = _train.score(network, y, parts.test, parts.test_labels)[1]
        return {name: {"phi": loss, "accuracy": accuracy}}, {"method": "L-BFGS, float64", **residual}

    key = {
        "problem": "hyper_cleaning", "version": version, "data": data, "model": model, "noise": noise,
        "protocol": protocol, "seed": rng.seed, "gtol": _train.GTOL, "maxiter": maxiter, "decay": decay,
        "digest": digest(parts.train, parts.noisy, parts.validation, parts.validation_labels, parts.test),
    }  # fmt: skip
    made: cache.Lines = {}
    for name, line in lines.items():  # one by one: what is solved is kept, should the process be stopped
        made |= cache.lines("hyper_cleaning", key | {"line": name}, functools.partial(solve, name, *line))
    return made


def digest(*arrays: np.ndarray) -> str:
    """sha256 of arrays, by which what is made of them is kept."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
