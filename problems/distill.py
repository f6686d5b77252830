"""Dataset distillation: a few images a class, made so that what is trained on them does well on real ones."""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge
from ._networks import CLASSES, Network

SIZES = {"digits": (600, 800), "mnist": (10000, 10000)}  # real images to learn from; test images
DECAY = 1e-2
SURE = 4.0  # logit of an image's own class in the soft labels at the start: .86 of it
GTOL, ITERATIONS = 1e-5, 500  # of the reference lines


class Images(NamedTuple):
    """The real images above, those for testing, and the rows of the former at which the distilled ones start."""

    real: Part
    test: Part
    first: np.ndarray


@problem(
    "distill",
    family="distillation",
    shows="data as upper variables: more of them than rows below, and good solutions are far from real images",
)
def distill(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    model: Literal["linear", "mlp"] = "linear",
    per_class: int = 1,
    labels: Literal["hard", "soft"] = "hard",
    hidden: int = 16,
) -> Problem:
    """The pixels of ``per_class`` images of each class, on which alone the classifier below is trained.

    g = mean CE(y; x_i, t_i) + 0.01 |y|^2 over the 10 * per_class distilled images x_i, f = mean CE of y on real
    images. x0: real images, drawn by class. Pixels are not bounded, as in the sources. ``labels='soft'``: t_i =
    softmax of ten logits of its own, which are part of x (4 for its own class at the start, 0 else; Sucholutsky and
    Schonlau, IJCNN 2021); ``hard``: t_i is its class. The problem of Wang, Zhu, Torralba, Efros (2018), which unroll
    a few steps from a known start, and, with a lower level trained to its end, of Maclaurin, Duvenaud, Adams (ICML
    2015) and of kernel inducing points (Nguyen, Chen, Lee, ICLR 2021: there ridge regression with a kernel).

    ``linear``: softmax regression, strongly convex below; ``mlp``: one hidden layer of tanh units. ``digits``: 600
    real images above, ``mnist``: 10000, and as many as is usual with ``per_class=10``. Shows: as many upper variables
    as pixels; the lower level sees no real image. ``accuracy`` on test images, and ``distance``: root mean square
    distance of a pixel to the start's. The line "all data" is what the images stand for; with decay it can be
    surpassed.
    """
    if per_class < 1 or hidden < 1:
        raise ValueError("per_class is at least 1, and hidden is at least 1")
    images = _draw(rng, data, per_class)
    start = torch.from_numpy(images.real.pixels[images.first])
    own = torch.from_numpy(images.real.labels[images.first])
    B, targets, C, test, marks, real = rng.put(*images.real, *images.test, own, start)
    network = Network(model, B.shape[1], hidden)
    soft = labels == "soft"
    shapes = Flat(tuple(start.shape), (len(own), CLASSES)) if soft else Flat(tuple(start.shape))
    x0 = Flat.join([start, SURE * one_hot(own, CLASSES).double()] if soft else [start])

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        pixels, *logits = shapes.split(x)
        aims = torch.softmax(logits[0], 1)[rows] if soft else marks[rows]
        return cross_entropy(network(y, pixels[rows]), aims) + DECAY * y @ y

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        distance = (shapes.split(x)[0] - real.to(x)).square().mean().sqrt()
        return {"accuracy": _accuracy(network, y, C.to(y), test), "distance": float(distance)}

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(network(y, B[rows]), targets[rows]),
        g=g,
        x0=x0,
        y0=network.start(rng.child("start")),
        n_f=len(targets),
        n_g=len(own),
        metrics=metrics,
        better={"accuracy": "higher"},
        bar=Bar("accuracy", ("random real images (start)", "class means")),
        references=functools.partial(_references, rng.seed, data, model, per_class, hidden),
        flags=frozenset({"strongly_convex"} if model == "linear" else {"nonconvex"}),
        phi_at="" if model == "linear" else "doublings",
    )


def _draw(rng: Draw, data: str, per_class: int) -> Images:
    real, test = parts(rng, data, SIZES[data])
    order = rng.child("first").permutation(len(real.labels)).numpy()
    of = [order[real.labels[order] == k] for k in range(CLASSES)]
    if (least := min(map(len, of))) < per_class:
        raise ValueError(f"per_class={per_class} is more than the {least} real images of the rarest class")
    return Images(real, test, np.concatenate([rows[:per_class] for rows in of]))


def _accuracy(network: Network, y: Tensor, inputs: Tensor, labels: Tensor) -> float:
    return float((network(y, inputs).argmax(1) == labels).double().mean())


def _references(seed: int, data: str, model: Literal["linear", "mlp"], per_class: int, hidden: int) -> cache.Lines:
    key = {
        "problem": "distill", "version": 1, "seed": seed, "data": data, "model": model, "per_class": per_class,
        "hidden": hidden,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("distill", key, lambda: (_solve(seed, data, model, per_class, hidden), how))


def _solve(seed: int, data: str, model: Literal["linear", "mlp"], per_class: int, hidden: int) -> cache.Lines:
    """Training sets that need no bilevel method, each with the classifier trained to convergence."""
    rng = Draw(seed)
    images = _draw(rng, data, per_class)
    B, targets, C, test = map(torch.from_numpy, (*images.real, *images.test))
    network = Network(model, B.shape[1], hidden)
    start, first = network.start(rng.child("start")), torch.from_numpy(images.first)
    means = torch.stack([B[targets == k].mean(0) for k in range(CLASSES)])
    lines = {
        "random real images (start)": (B[first], targets[first]),
        "class means": (means, torch.arange(CLASSES)),
        "all data": (B, targets),
    }
    rows = {}
    for name, (inputs, labels) in lines.items():
        loss = functools.partial(_decayed, network, inputs, labels)
        y = converge(loss, start, gtol=GTOL, iterations=ITERATIONS)
        rows[name] = {"phi": float(cross_entropy(network(y, B), targets)), "accuracy": _accuracy(network, y, C, test)}
    return rows


def _decayed(network: Network, inputs: Tensor, labels: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(network(y, inputs), labels) + DECAY * y @ y
