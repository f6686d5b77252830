"""A long-tailed training set: how much each class counts, shifts of its logit, and how soft its labels are."""

import functools
import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge
from ._networks import CLASSES, Network

SIZES = {"digits": (100, 5, 60), "mnist": (5000, 10, 850)}  # of a class: training at most, validation, test
DECAY = 1e-3
SOFT = 4.0  # a class's smoothing is sigmoid(s - SOFT): .018 at the start, and not flat there
GTOL, ITERATIONS = 1e-4, 500  # of the reference lines
X = Flat((CLASSES,), (CLASSES,), (CLASSES,))


class Tail(NamedTuple):
    """Long-tailed training images; balanced ones to validate and to test with."""

    train: Part
    validation: Part
    test: Part


@problem(
    "imbalance",
    family="weighting",
    shows="three ways to help rare classes that do the same in part: a flat, badly scaled upper level",
)
def imbalance(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    model: Literal["linear", "mlp"] = "mlp",
    hidden: int = 16,
    ratio: float = 20.0,
) -> Problem:
    """The loss of a long-tailed training set, learnt so that the classifier does well on all classes alike.

    x = (u, d, s), ten numbers each. With w = 10 softmax(u), e = sigmoid(s - 4) and logits z(y; a), g = mean_i w_k [(1
    - e_k) L_k + e_k mean_j L_j] + 1e-3 |y|^2, where k is the label of row i and L_j the cross-entropy of class j
    under the logits z + d; f = mean cross-entropy of z, without shifts, on a balanced validation set. x0 = 0: the
    plain loss but for a smoothing of .018. The parametric loss of AutoBalance (Li, Zhang, Thrampoulidis, Chen, Oymak,
    NeurIPS 2021): class weights and additive logit shifts, with label smoothing (Szegedy et al., CVPR 2016) by class
    in place of multiplicative shifts; d = log of the classes' shares is logit adjustment (Menon et al., ICLR 2021).
    Their protocol has 20 % of the long-tailed training set for validation, under a balanced loss.

    The classes' training sizes fall geometrically, the largest ``ratio`` times the least, in an order that the seed
    draws: ``digits`` 100 to 5, 5 validation images a class; ``mnist`` from 5000, 10. ``mlp``: one hidden layer of
    tanh units; ``linear``: softmax regression, strongly convex below. Shows: weights, shifts and smoothing replace
    each other in part, so Phi is flat in some directions. ``accuracy`` on a balanced test set; ``tail_accuracy``: on
    its three rarest classes; ``smoothing``: mean of e.
    """
    if ratio < 1 or hidden < 1:
        raise ValueError("ratio is at least 1, and hidden is at least 1")
    tail = _draw(rng, data, ratio)
    A, labels, B, targets, C, test = rng.put(*tail.train, *tail.validation, *tail.test)
    rare = rng.put(torch.from_numpy(_counts(tail)).argsort(stable=True)[:3])
    network = Network(model, A.shape[1], hidden)

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return _loss(network, x, y, A[rows], labels[rows]) + DECAY * y @ y

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        found = _judged(network, y, C.to(y), test, rare)
        return {**found, "smoothing": float(torch.sigmoid(X.split(x)[2] - SOFT).mean())}

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(network(y, B[rows]), targets[rows]),
        g=g,
        x0=torch.zeros(X.size, dtype=torch.float64),
        y0=network.start(rng.child("start")),
        n_f=len(targets),
        n_g=len(labels),
        metrics=metrics,
        better={"accuracy": "higher", "tail_accuracy": "higher"},
        bar=Bar(
            "accuracy",
            ("plain (start)", "inverse frequency", "logit adjustment", "validation alone", "adjustment + validation"),
        ),
        references=functools.partial(_references, rng.seed, data, model, hidden, ratio),
        flags=frozenset({"strongly_convex"} if model == "linear" else {"nonconvex"}),
        phi_at="" if model == "linear" else "doublings",
    )


def _loss(network: Network, x: Tensor, y: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """The parametric loss, mean over rows (n, pixels) with labels (n,)."""
    u, d, s = X.split(x)
    weight, smooth = CLASSES * torch.softmax(u, 0)[labels], torch.sigmoid(s - SOFT)[labels]
    each = -torch.log_softmax(network(y, inputs) + d, 1)
    own = each.gather(1, labels[:, None]).squeeze(1)
    return (weight * ((1 - smooth) * own + smooth * each.mean(1))).mean()


def _counts(tail: Tail) -> np.ndarray:
    return np.bincount(tail.train.labels, minlength=CLASSES)


def _draw(rng: Draw, data: str, ratio: float) -> Tail:
    most, few, test = SIZES[data]
    order = rng.child("tail").permutation(CLASSES).tolist()  # from the commonest class to the rarest
    found = []
    for place, digit in enumerate(order):
        n = max(1, round(most * ratio ** (-place / (CLASSES - 1))))
        found.append(parts(rng.child(str(digit)), data, (n, few, test), (digit,)))
    joined = [
        Part(np.concatenate([p.pixels for p in k]), np.concatenate([p.labels for p in k]))
        for k in zip(*found, strict=True)
    ]
    return Tail(*joined)


def _judged(network: Network, y: Tensor, inputs: Tensor, labels: Tensor, rare: Tensor) -> dict[str, float]:
    hits = (network(y, inputs).argmax(1) == labels).double()
    return {"accuracy": float(hits.mean()), "tail_accuracy": float(hits[torch.isin(labels, rare)].mean())}


def _references(seed: int, data: str, model: Literal["linear", "mlp"], hidden: int, ratio: float) -> cache.Lines:
    key = {
        "problem": "imbalance", "version": 1, "seed": seed, "data": data, "model": model, "hidden": hidden,
        "ratio": ratio,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("imbalance", key, lambda: (_solve(seed, data, model, hidden, ratio), how))


def _solve(seed: int, data: str, model: Literal["linear", "mlp"], hidden: int, ratio: float) -> cache.Lines:
    """Losses that need no bilevel method, each with the classifier trained to convergence."""
    rng = Draw(seed)
    tail = _draw(rng, data, ratio)
    A, labels, B, targets, C, test = map(torch.from_numpy, (*tail.train, *tail.validation, *tail.test))
    network = Network(model, A.shape[1], hidden)
    start, counts = network.start(rng.child("start")), torch.from_numpy(_counts(tail)).double()
    plain = torch.zeros(X.size, dtype=torch.float64)
    hard = torch.full((CLASSES,), -math.inf, dtype=torch.float64)  # no smoothing

    def chosen(u: Tensor, d: Tensor) -> Tensor:
        return torch.cat([u, d, hard])

    zero = plain[:CLASSES]
    adjusted = chosen(zero, torch.log(counts / counts.sum()))
    both = torch.log((counts + len(targets) / CLASSES) / (len(labels) + len(targets)))
    lines = {
        "plain (start)": (A, labels, plain),
        "inverse frequency": (A, labels, chosen(-torch.log(counts), zero)),
        "logit adjustment": (A, labels, adjusted),
        "validation alone": (B, targets, chosen(zero, zero)),
        "adjustment + validation": (torch.cat([A, B]), torch.cat([labels, targets]), chosen(zero, both)),
    }
    rows = {}
    for name, (inputs, marks, x) in lines.items():
        loss = functools.partial(_decayed, network, x, inputs, marks)
        y = converge(loss, start, gtol=GTOL, iterations=ITERATIONS)
        phi = float(cross_entropy(network(y, B), targets))
        rows[name] = {"phi": phi, **_judged(network, y, C, test, counts.argsort(stable=True)[:3])}
    return rows


def _decayed(network: Network, x: Tensor, inputs: Tensor, labels: Tensor, y: Tensor) -> Tensor:
    return _loss(network, x, y, inputs, labels) + DECAY * y @ y
