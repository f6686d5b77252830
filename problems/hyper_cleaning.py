"""Data hyper-cleaning: one weight per training example, half of the labels wrong."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Draw, Flat, Problem, problem

from ._data import mnist

DECAY = 1e-3  # of |W|^2, the sum over all parameters
HIDDEN = {"digits": 32, "mnist": 300}


@dataclass(frozen=True)
class Split:
    """Inputs (n, pixels) in [0, 1] and labels of the three sets; ``noisy`` are the training labels as given."""

    train: np.ndarray
    labels: np.ndarray
    noisy: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@problem("hyper_cleaning", shows="many upper variables, with 'validation only' as the line to beat")
def hyper_cleaning(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    model: Literal["linear", "mlp"] = "linear",
    noise: float = 0.5,
) -> Problem:
    """One weight sigmoid(x_i) per training example, so that a classifier trained with them does well on clean data.

    g = mean_i sigmoid(x_i) CE(W; a_i, noisy label) + 1e-3 |W|^2,  f = mean CE on the clean validation set; x0 = 0.
    A share ``noise`` of the training labels is replaced by another class. ``mnist``: rows 0..4999 of the training
    file train, 5000..9999 validate, the official 10000 test, noise from numpy's default_rng(seed). ``digits`` (8x8,
    from scikit-learn): 600, 600 and 597 rows, split by the seed. ``linear``: softmax with bias, W0 = 0, strongly
    convex in W; ``mlp``: one hidden layer of 32 or 300 tanh units. A method that does not beat "validation only"
    has shown nothing.
    """
    if not 0 <= noise <= 1:
        raise ValueError("noise is a share, from 0 to 1")
    parts = _digits(rng, noise) if data == "digits" else _mnist(rng, noise)
    A, labels, B, targets, C, test = rng.put(
        parts.train, parts.noisy, parts.validation, parts.validation_labels, parts.test, parts.test_labels
    )
    shape, start = _model(model, HIDDEN[data], A.shape[1], rng)
    corrupt = parts.noisy != parts.labels

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        clean = torch.sigmoid(x).cpu().numpy()
        hits = _logits(shape, y, C.to(y)).argmax(1) == test
        return {
            "accuracy": float(hits.double().mean()),
            "f1": float(f1_score(corrupt, clean < 0.5, zero_division=0.0)),
            "auc": float(roc_auc_score(corrupt, -clean)) if 0 < corrupt.mean() < 1 else float("nan"),
        }

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        losses = cross_entropy(_logits(shape, y, A[rows]), labels[rows], reduction="none")
        return (torch.sigmoid(x[rows]) * losses).mean() + DECAY * y @ y

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(_logits(shape, y, B[rows]), targets[rows]),
        g=g,
        x0=torch.zeros(len(corrupt), dtype=torch.float64),
        y0=start,
        n_f=len(targets),
        n_g=len(labels),
        metrics=metrics,
        references=functools.partial(_references, parts, shape, start),
        flags=frozenset({"strongly_convex"} if model == "linear" else {"nonconvex"}),
    )


def _digits(rng: Draw, noise: float) -> Split:
    pixels, labels = load_digits(return_X_y=True)
    order = rng.child("split").permutation(len(labels)).numpy()
    pixels, labels = pixels[order] / 16.0, labels[order].astype(np.int64)
    noisy = _corrupt(rng.numpy, labels[:600], noise)
    return Split(
        pixels[:600], labels[:600], noisy, pixels[600:1200], labels[600:1200], pixels[1200:], labels[1200:]
    )  # fmt: skip


def _mnist(rng: Draw, noise: float) -> Split:
    pixels, labels, test, test_labels = mnist()
    pixels, labels = pixels[:10000] / 255.0, labels[:10000].astype(np.int64)
    noisy = _corrupt(rng.numpy, labels[:5000], noise)
    return Split(
        pixels[:5000], labels[:5000], noisy, pixels[5000:], labels[5000:], test / 255.0, test_labels.astype(np.int64)
    )  # fmt: skip


def _corrupt(rng: np.random.Generator, labels: np.ndarray, noise: float) -> np.ndarray:
    """Exactly the share ``noise`` of the labels replaced, each by another class."""
    chosen = rng.permutation(len(labels))[: round(noise * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
    return noisy


def _model(model: str, hidden: int, pixels: int, rng: Draw) -> tuple[Flat, Tensor]:
    """The parameters' shapes and start: (weight, bias), or (weight, bias, weight, bias) of an MLP."""
    if model == "linear":
        flat = Flat((10, pixels), (10,))
        return flat, torch.zeros(flat.size, dtype=torch.float64)
    flat, draw = Flat((hidden, pixels), (hidden,), (10, hidden), (10,)), rng.child("start")
    first, second = draw.normal(hidden, pixels) / pixels**0.5, draw.normal(10, hidden) / hidden**0.5
    return flat, Flat.join([first, torch.zeros(hidden).double(), second, torch.zeros(10).double()])


def _logits(shape: Flat, y: Tensor, inputs: Tensor) -> Tensor:
    weight, bias, *more = shape.split(y)
    outputs = torch.addmm(bias, inputs, weight.T)
    return torch.addmm(more[1], torch.tanh(outputs), more[0].T) if more else outputs


_SOLVED: dict[tuple[bytes, int], dict[str, dict[str, float]]] = {}  # lines are dear: once per process and problem


def _references(parts: Split, shape: Flat, start: Tensor) -> dict[str, dict[str, float]]:
    """Validation loss and test accuracy of five lines, each trained to convergence (L-BFGS, float64, CPU)."""
    key = (parts.noisy.tobytes() + parts.train[:5].tobytes(), shape.size)
    if key in _SOLVED:
        return _SOLVED[key]
    clean, n = (parts.noisy == parts.labels).astype(float), len(parts.labels)
    both = np.concatenate([parts.train[clean > 0], parts.validation])
    both_labels = np.concatenate([parts.labels[clean > 0], parts.validation_labels])
    lines = {
        "noisy labels": (parts.train, parts.noisy, np.ones(n)),
        "weights at the start": (parts.train, parts.noisy, np.full(n, 0.5)),
        "clean mask (oracle)": (parts.train, parts.noisy, clean),
        "validation only": (parts.validation, parts.validation_labels, np.ones(len(parts.validation))),
        "clean mask + validation": (both, both_labels, np.ones(len(both))),
    }
    _SOLVED[key] = {name: _line(parts, shape, start, *line) for name, line in lines.items()}
    return _SOLVED[key]


def _line(
    parts: Split, shape: Flat, start: Tensor, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    a, t, w = torch.from_numpy(inputs), torch.from_numpy(labels), torch.from_numpy(weights)

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        y = torch.from_numpy(vector).requires_grad_()
        loss = (w * cross_entropy(_logits(shape, y, a), t, reduction="none")).mean() + DECAY * y @ y
        return float(loss.detach()), torch.autograd.grad(loss, y)[0].numpy()

    with torch.enable_grad():
        found = minimize(fun, start.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-7})
    y = torch.from_numpy(found.x)
    validation = _logits(shape, y, torch.from_numpy(parts.validation))
    hits = _logits(shape, y, torch.from_numpy(parts.test)).argmax(1).numpy() == parts.test_labels
    loss = float(cross_entropy(validation, torch.from_numpy(parts.validation_labels)))
    return {"phi": loss, "accuracy": float(hits.mean())}
