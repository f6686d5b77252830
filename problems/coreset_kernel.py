"""A weighted coreset of images: kernel ridge regression on few candidates that should do for all."""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilevelbench import Bar, Draw, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

SIZES = {"digits": (40, 300, 1000), "mnist": (200, 1000, 5000)}  # candidates, all (they are not among them), test


class Kernel(NamedTuple):
    """Features of candidates (m, m), of all images and of the test images in the candidates' basis; targets."""

    features: np.ndarray
    all: np.ndarray
    test: np.ndarray
    targets: np.ndarray
    all_targets: np.ndarray


@problem(
    "coreset_kernel",
    family="weighting",
    shows="a weighting on the simplex by logits: slow where weights vanish; y* is known in closed form",
)
def coreset_kernel(rng: Draw, data: Literal["digits", "mnist"] = "digits", ridge: float = 1e-3) -> Problem:
    """Weights p = softmax(x) on candidate images, such that a kernel ridge regression on them fits another, large set.

    g = 1/2 sum_i p_i |phi_i'Y - t_i|^2 + ridge/2 |Y|^2,  f = 1/2 mean_j |phi_j'Y - t_j|^2 over all other images; t is
    one-hot, less 1/10; y is the matrix Y (m, 10). phi is the map to the candidates' span of a Gaussian kernel whose
    width is the median distance: phi_i'phi_k = kernel(a_i, a_k), so that |Y| is the norm of the function.
    y*(x) = (sum_i p_i phi_i phi_i' + ridge I)^-1 sum_i p_i phi_i t_i'. Borsos, Mutny, Krause (NeurIPS 2020) use kernel
    ridge regression as the proxy below and choose greedily; the weights on the simplex are as in Hao, Ji, Liu (2023),
    without their term for sparsity; sizes are ours. Digits: 40 candidates for 300 images, mnist: 200 for 1000.
    ``accuracy`` on test images; ``size``: 1 / sum p_i^2, the number of candidates that count.
    """
    if ridge <= 0:
        raise ValueError("ridge is positive")
    candidates, every, test = parts(rng, data, SIZES[data])
    made = _kernel(candidates, every, test)
    P, T, Q, S = rng.put(made.features, made.targets, made.all, made.all_targets)
    m = len(P)
    eye = ridge * torch.eye(m).to(P)
    key = {"problem": "coreset_kernel", "version": 1, "seed": rng.seed, "data": data, "ridge": ridge}
    how = {"method": "one linear solve a line, float64"}

    def f(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return 0.5 * (Q[rows] @ y.view(m, -1) - S[rows]).square().sum(1).mean()

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        errors = (P[rows] @ y.view(m, -1) - T[rows]).square().sum(1)
        return 0.5 * m * (torch.softmax(x, 0)[rows] * errors).mean() + 0.5 * ridge * y @ y

    def y_star(x: Tensor) -> Tensor:
        weighted = torch.softmax(x, 0).unsqueeze(1) * P.to(x)
        return torch.linalg.solve(P.to(x).T @ weighted + eye.to(x), weighted.T @ T.to(x)).reshape(-1)

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        found = made.test @ y.detach().cpu().double().view(m, -1).numpy()
        size = 1 / float(torch.softmax(x, 0).square().sum())
        return {"accuracy": float((found.argmax(1) == test.labels).mean()), "size": size}

    return Problem(
        f=f,
        g=g,
        x0=torch.zeros(m, dtype=torch.float64),
        y0=torch.zeros(m * T.shape[1], dtype=torch.float64),
        n_f=len(S),
        n_g=m,
        y_star=y_star,
        metrics=metrics,
        better={"accuracy": "higher"},
        bar=Bar("accuracy", ("equal weights (start)", "balanced by class")),
        references=functools.partial(
            cache.lines, "coreset_kernel", key, lambda: (_references(made, candidates.labels, every, test, ridge), how)
        ),
        flags=frozenset({"strongly_convex"}),
    )


def _kernel(candidates: Part, every: Part, test: Part) -> Kernel:
    width = np.median(_distances(candidates.pixels, candidates.pixels))
    gram, cross, far = (
        np.exp(-_distances(p, candidates.pixels) / width) for p in (candidates.pixels, every.pixels, test.pixels)
    )
    root = np.linalg.cholesky(gram)  # gram = root root', so that candidates are its rows
    onto = np.linalg.inv(root).T
    return Kernel(root, cross @ onto, far @ onto, _one_hot(candidates.labels), _one_hot(every.labels))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of rows."""
    return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(10)[labels] - 0.1


def _solve(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    weighted = weights[:, None] * features
    return np.linalg.solve(features.T @ weighted + ridge * np.eye(features.shape[1]), weighted.T @ targets)


def _references(made: Kernel, labels: np.ndarray, every: Part, test: Part, ridge: float) -> cache.Lines:
    """Weights that need no bilevel method; "validation only" fits the candidates' features to all images."""
    m = len(labels)
    by_class = 1 / np.bincount(labels, minlength=10)[labels]
    lines = {
        "equal weights (start)": (made.features, made.targets, np.full(m, 1 / m)),
        "balanced by class": (made.features, made.targets, by_class / by_class.sum()),
        "validation only": (made.all, made.all_targets, np.full(len(made.all), 1 / len(made.all))),
    }
    rows = {}
    for name, (features, targets, weights) in lines.items():
        Y = _solve(features, targets, weights, ridge)
        phi = 0.5 * np.square(made.all @ Y - made.all_targets).sum(1).mean()
        rows[name] = {"phi": float(phi), "accuracy": float(((made.test @ Y).argmax(1) == test.labels).mean())}
    return rows
