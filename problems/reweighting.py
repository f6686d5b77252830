"""Learning to reweight: a heavily imbalanced training set, ten clean validation images."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import GTOL, converge

RARE, COMMON = 4, 9
SIZES = {"digits": (110, 10, 60), "mnist": (5000, 10, 900)}  # training; validation; test images of each class
HIDDEN = {"digits": 16, "mnist": 100}
DECAY = 1e-3


class Split(NamedTuple):
    """Training, validation and test images; labels are 1 for the rare class, -1 for the common one."""

    train: Part
    validation: Part
    test: Part


@problem(
    "reweighting",
    family="weighting",
    shows="ten images that decide for thousands: f falls on when the accuracy has stopped rising",
)
def reweighting(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    model: Literal["linear", "mlp"] = "linear",
    rare: float = 0.03,
) -> Problem:
    """One weight for each training image of an imbalanced pair of digits, 4 (rare) against 9.

    g = sum_i p_i log(1 + exp(-t_i score(a_i; y))) + 1e-3 |y|^2 with p = softmax(x), x0 = 0: the weights are positive
    and sum to one, as after the normalisation of Ren, Zeng, Yang, Urtasun (ICML 2018);  f = mean logistic loss on 10
    validation images, 5 of each class. ``rare`` is the share of fours in training. Their protocol: MNIST, 5000
    images, up to 0.995 : 0.005, LeNet: ``reweighting(data='mnist',rare=0.005)``, with ``linear`` (strongly convex) or
    one hidden layer of tanh units (``mlp``) here instead of LeNet, and a full lower problem instead of one step per
    batch. Digits: 110 images. Shows: ten images are soon learnt, so f falls on when accuracy has stopped rising; the
    weights matter by their ratios only. ``accuracy`` on a balanced test set, ``rare_accuracy`` on its fours,
    ``rare_weight``: the weight on all fours together (at the start their share; one half is balanced).
    """
    split = _draw(rng, data, rare)
    A, t, B, s, C = rng.put(*split.train, *split.validation, split.test.pixels)
    score, start = _model(rng, model, data, A.shape[1])

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        weight = float(torch.softmax(x, 0)[(t > 0).to(x.device)].sum())
        return _judged(split.test.labels, score(y, C.to(y))) | {"rare_weight": weight}

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        losses = softplus(-t[rows] * score(y, A[rows]))
        return len(t) * (torch.softmax(x, 0)[rows] * losses).mean() + DECAY * y @ y

    return Problem(
        f=lambda x, y, rows=...: softplus(-s[rows] * score(y, B[rows])).mean(),
        g=g,
        x0=torch.zeros(len(t), dtype=torch.float64),
        y0=start,
        n_f=len(s),
        n_g=len(t),
        metrics=metrics,
        better={"accuracy": "higher", "rare_accuracy": "higher"},
        bar=Bar("accuracy", ("equal weights (start)", "balanced by class", "validation only", "balanced + validation")),
        references=functools.partial(_references, rng.seed, data, model, rare),
        flags=frozenset({"strongly_convex"} if model == "linear" else {"nonconvex"}),
    )


def _draw(rng: Draw, data: str, rare: float) -> Split:
    n, few, test = SIZES[data]
    m = round(rare * n)
    if not 1 <= m < n:
        raise ValueError(f"rare={rare} leaves no image of one class among {n}; take a share between")
    sizes = {RARE: (m, few // 2, test), COMMON: (n - m, few // 2, test)}
    found = [parts(rng.child(str(digit)), data, sizes[digit], (digit,)) for digit in (RARE, COMMON)]
    joined = []
    for fours, nines in zip(*found, strict=True):
        labels = np.r_[np.ones(len(fours.labels)), -np.ones(len(nines.labels))]
        joined.append(Part(np.r_[fours.pixels, nines.pixels], labels))
    return Split(*joined)


def _model(rng: Draw, model: str, data: str, pixels: int) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """(score of (parameters, images), the start)."""
    if model == "linear":
        return lambda y, a: a @ y[:-1] + y[-1], torch.zeros(pixels + 1, dtype=torch.float64)
    hidden, draw = HIDDEN[data], rng.child("start")
    flat = Flat((hidden, pixels), (hidden,), (hidden,), (1,))

    def score(y: Tensor, a: Tensor) -> Tensor:
        first, shift, last, bias = flat.split(y)
        return torch.tanh(torch.addmm(shift, a, first.T)) @ last + bias

    zeros = torch.zeros(hidden, dtype=torch.float64)
    return score, Flat.join(
        [draw.normal(hidden, pixels) / pixels**0.5, zeros, draw.normal(hidden) / hidden**0.5, zeros[:1]]
    )


def _judged(labels: np.ndarray, scores: Tensor) -> dict[str, float]:
    hits = (scores.cpu().numpy() > 0) == (labels > 0)
    return {"accuracy": float(hits.mean()), "rare_accuracy": float(hits[labels > 0].mean())}


def _references(seed: int, data: str, model: str, rare: float) -> cache.Lines:
    key = {"problem": "reweighting", "version": 1, "seed": seed, "data": data, "model": model, "rare": rare}
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or 2000 iterations"}
    return cache.lines("reweighting", key, lambda: (_solve(seed, data, model, rare), how))


def _solve(seed: int, data: str, model: str, rare: float) -> cache.Lines:
    """Weights that need no bilevel method, each with the classifier trained to convergence."""
    split = _draw(Draw(seed), data, rare)
    A, t, B, s, C = map(torch.from_numpy, (*split.train, *split.validation, split.test.pixels))
    score, start = _model(Draw(seed), model, data, A.shape[1])
    equal = torch.full_like(t, 1 / len(t))
    balanced = torch.where(t > 0, 0.5 / (t > 0).sum(), 0.5 / (t < 0).sum())
    lines = {
        "equal weights (start)": (A, t, equal),
        "balanced by class": (A, t, balanced),
        "validation only": (B, s, torch.full_like(s, 1 / len(s))),
        "balanced + validation": (
            torch.cat([A, B]),
            torch.cat([t, s]),
            torch.cat([balanced, torch.full_like(s, 1 / len(s))]) / 2,
        ),
    }
    rows = {}
    for name, (inputs, labels, weights) in lines.items():
        y = converge(functools.partial(_loss, score, inputs, labels, weights), start)
        phi = float(softplus(-s * score(y, B)).mean())
        rows[name] = {"phi": phi, **_judged(split.test.labels, score(y, C))}
    return rows


def _loss(score: Callable[[Tensor, Tensor], Tensor], a: Tensor, t: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return (w * softplus(-t * score(y, a))).sum() + DECAY * y @ y
