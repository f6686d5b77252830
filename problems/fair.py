"""Fair classification: one weight per group and label, so that the two groups get the same scores."""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import softplus

from bilevelbench import Bar, Draw, Problem, box, problem
from bilevelbench.data import cache, find
from bilevelbench.data.count import seen

DECAY = 1e-3
BOUND = 3.0  # of the log-weights
SEX = (72, 73)  # columns of a9a, numbered from 1: female, male


class Part(NamedTuple):
    """Inputs with a column of ones (n, d), labels in {-1, 1}, groups in {0, 1}."""

    inputs: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


@problem("fair", family="weighting", shows="an upper loss that is no finite sum, and weights that end at their bounds")
def fair(
    rng: Draw,
    data: Literal["synthetic", "a9a"] = "synthetic",
    size: int = 400,
    rho: float = 1.0,
    clean: bool = False,
) -> Problem:
    """Weights exp(x_c) on the four cells c = (group, label) of a logistic regression; accuracy against equal scores.

    g = mean_i exp(x_c(i)) log(1 + exp(-t_i a_i'y)) + 1e-3 |y|^2,  f = mean logistic loss on validation data + rho D^2
    with D the difference of the groups' mean scores sigmoid(a'y); x in [-3, 3]^4, from 0. ``size`` rows train, as
    many validate. ``synthetic``: two groups, 1 and 2 in 3; the label depends on two features, one of which the
    smaller group has less of, and four more are noise. ``a9a``: groups are the columns of sex, which the classifier
    does not see; rows drawn from the training file, the official test file for testing. The instance and its protocol
    are ours. Four upper variables, so Phi* can be certified: exact hypergradients and L-BFGS here, a grid in a test.
    Shows: an f that is no finite sum, a solution with some weights at their least (less weight is more decay), and
    how much of the gain a weighting without bilevel has already (reweighing: Kamiran and Calders, 2012).
    ``parity``: the difference of the groups' shares of positive decisions on test data.
    Many rows of a9a are the same to the classifier: at seed 0, 6 of 400 rows that validate and 305 of the 16281 test
    rows are among the 400 that train (548 and 2181 of 4000); ``clean`` has others, and no such test rows.
    """
    if size < 20 or rho < 0:
        raise ValueError("size is at least 20 and rho is not negative")
    train, validation, test = _parts(rng, data, size, clean)
    A, t, groups, B, s, other = rng.put(*train, *validation)
    cell = 2 * groups + (t > 0)
    counts = (other == 0).to(B).sum(), (other == 1).to(B).sum()

    def f(x: Tensor, y: Tensor) -> Tensor:
        scores = B @ y
        chance = torch.sigmoid(scores)
        difference = chance[other == 1].sum() / counts[1] - chance[other == 0].sum() / counts[0]
        return softplus(-s * scores).mean() + rho * difference**2

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return (torch.exp(x[cell[rows]]) * softplus(-t[rows] * (A[rows] @ y))).mean() + DECAY * y @ y

    return Problem(
        f=f,
        g=g,
        x0=torch.zeros(4, dtype=torch.float64),
        y0=torch.zeros(A.shape[1], dtype=torch.float64),
        n_g=len(t),
        phi_star=_optimum(rng.seed, data, size, rho, clean)[1],
        phi_star_source="L-BFGS from 4 starts on exact hypergradients, lower level by Newton",
        metrics=lambda x, y: _judged(test, y.detach().cpu().double().numpy()),
        better={"accuracy": "higher", "parity": "lower"},
        bar=Bar("phi", ("equal weights", "reweighing", "validation only")),
        references=functools.partial(_references, rng.seed, data, size, rho, clean),
        project_x=box(-BOUND, BOUND),
        flags=frozenset({"strongly_convex", "boundary"}),
    )


class Instance(NamedTuple):
    """Data and rho; ``cell`` = 2 group + (label > 0), of each training row."""

    train: Part
    validation: Part
    rho: float
    cell: np.ndarray


def _instance(train: Part, validation: Part, rho: float) -> Instance:
    cell = 2 * train.groups + (train.labels > 0)
    if len(np.unique(cell)) < 4:
        raise ValueError("a group has one label only; take more rows")
    return Instance(train, validation, rho, cell)


def _parts(rng: Draw, data: str, size: int, clean: bool) -> list[Part]:
    return _synthetic(rng, size) if data == "synthetic" else _a9a(rng, size, clean)


def _synthetic(rng: Draw, size: int) -> list[Part]:
    """The second feature is of use for the label, and the smaller group has less of it."""
    parts = []
    for name, n in (("train", size), ("validation", size), ("test", 2000)):
        draw = rng.child(name)
        groups = (draw.uniform(0, 1, n).numpy() < 2 / 3).astype(np.int64)
        inputs = draw.normal(n, 6).numpy()
        inputs[:, 1] += 1.5 * groups - 1.0
        chance = expit(1.5 * inputs[:, 0] + 1.5 * inputs[:, 1])
        labels = np.where(draw.uniform(0, 1, n).numpy() < chance, 1.0, -1.0)
        parts.append(Part(np.c_[inputs, np.ones(n)], labels, groups))
    return parts


def _a9a(rng: Draw, size: int, clean: bool = False) -> list[Part]:
    (inputs, labels), (test, test_labels) = (find.libsvm(name) for name in ("a9a", "a9a.t"))
    if 2 * size > len(labels):
        raise ValueError(f"a9a has {len(labels)} rows, too few for twice {size}")
    order = rng.child("split").permutation(len(labels)).numpy()
    if clean:
        visible = np.delete(np.arange(inputs.shape[1]), [c - 1 for c in SEX])
        train, rest = inputs[order[:size]][:, visible], order[size:]
        order = np.concatenate([order[:size], rest[~seen(inputs[rest][:, visible], train)]])
        new = ~seen(test[:, visible], train)
        test, test_labels = test[new], test_labels[new]
        if 2 * size > len(order):
            raise ValueError(f"size is {size}, and {len(order) - size} rows of a9a do not occur in training")

    def part(rows: csr_matrix, given: np.ndarray) -> Part:
        dense = rows.toarray()
        rest = np.delete(dense, [c - 1 for c in SEX], 1)
        return Part(np.c_[rest, np.ones(len(rest))], np.sign(given), dense[:, SEX[1] - 1].astype(np.int64))

    return [part(inputs[o], labels[o]) for o in (order[:size], order[size : 2 * size])] + [part(test, test_labels)]


def _lower(one: Instance, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y*(x), the Hessian there) by damped Newton steps."""
    A, t, _ = one.train
    w = np.exp(x)[one.cell] / len(t)

    def value(point: np.ndarray) -> float:
        return float(w @ np.logaddexp(0, -t * (A @ point)) + DECAY * point @ point)

    for _ in range(100):
        p = expit(-t * (A @ y))
        gradient = -A.T @ (w * t * p) + 2 * DECAY * y
        hessian = (A * (w * p * (1 - p))[:, None]).T @ A + 2 * DECAY * np.eye(len(y))
        if np.abs(gradient).max() <= 1e-12:
            break
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-4 and value(y - size * step) > value(y) - 1e-4 * size * gradient @ step:
            size /= 2
        y = y - size * step
    return y, hessian


def _phi(one: Instance, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(Phi, its gradient by the implicit function theorem, y*)."""
    y, hessian = _lower(one, x, y)
    (A, t, _), (B, s, other) = one.train, one.validation
    chance = expit(B @ y)
    each = np.where(other == 1, 1 / (other == 1).sum(), -1 / (other == 0).sum())
    difference = each @ chance
    value = np.logaddexp(0, -s * (B @ y)).mean() + one.rho * difference**2
    upper = -B.T @ (s * expit(-s * (B @ y))) / len(s)
    upper += 2 * one.rho * difference * (B.T @ (each * chance * (1 - chance)))
    v = np.linalg.solve(hessian, upper)
    cross = np.exp(x)[one.cell] / len(t) * (-t * expit(-t * (A @ y))) * (A @ v)  # d2g/dxdy v, row by row
    return float(value), -np.bincount(one.cell, cross, 4), y


@functools.lru_cache(maxsize=32)
def _optimum(seed: int, data: str, size: int, rho: float, clean: bool) -> tuple[np.ndarray, float]:
    """The best log-weights and the least Phi."""
    train, validation, _ = _parts(Draw(seed), data, size, clean)
    one = _instance(train, validation, rho)
    last = np.zeros(one.train.inputs.shape[1])

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        value, gradient, last = _phi(one, x, last)
        return value, gradient

    starts = np.random.default_rng(0).uniform(-1, 1, (4, 4)) * [[0], [1], [1], [1]]  # of the search only
    options = {"gtol": 1e-9, "ftol": 0.0, "maxiter": 500}
    found = [
        minimize(fun, x, jac=True, method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * 4, options=options) for x in starts
    ]
    best = min(found, key=lambda run: run.fun)
    return best.x, float(best.fun)


def _judged(test: Part, y: np.ndarray) -> dict[str, float]:
    hits = (test.inputs @ y > 0).astype(float)
    return {
        "accuracy": float((hits == (test.labels > 0)).mean()),
        "parity": float(abs(hits[test.groups == 1].mean() - hits[test.groups == 0].mean())),
    }


def _references(seed: int, data: str, size: int, rho: float, clean: bool) -> cache.Lines:
    key = {"problem": "fair", "version": 1, "seed": seed, "data": data, "size": size, "rho": rho, "clean": clean}
    how = {"method": "lower level by Newton, largest gradient 1e-12; weights by L-BFGS from 4 starts where optimised"}
    return cache.lines("fair", key, lambda: (_solve(seed, data, size, rho, clean), how))


def _solve(seed: int, data: str, size: int, rho: float, clean: bool) -> cache.Lines:
    """Each line with its own weights, the lower level solved."""
    train, validation, test = _parts(Draw(seed), data, size, clean)
    one = _instance(train, validation, rho)
    positive, zeros = train.labels > 0, np.zeros(4)
    expected = [np.mean(train.groups == c // 2) * np.mean(positive == c % 2) for c in range(4)]
    lines = {
        "equal weights": (one, zeros),
        "reweighing": (one, np.log(expected / (np.bincount(one.cell) / len(positive)))),
        "accuracy only (rho = 0)": (one, _optimum(seed, data, size, 0.0, clean)[0]),
        "validation only": (_instance(validation, validation, rho), zeros),
        "best weights": (one, _optimum(seed, data, size, rho, clean)[0]),
    }
    rows = {}
    for name, (given, x) in lines.items():
        value, _, y = _phi(given, x, np.zeros(train.inputs.shape[1]))
        rows[name] = {"phi": value, **_judged(test, y)}
    return rows
