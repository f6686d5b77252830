"""Learned augmentation: how far training images are turned, moved and scaled, so that turned ones are known."""

import functools
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge
from ._networks import Network
from ._warp import paired, warped

SIZES = {"digits": (100, 100, 900), "mnist": (2000, 2000, 10000)}  # training, validation, test images
DECAY = 1e-3
HIGH = (math.pi, 0.25, math.log(1.5))  # the range of everything: turn (radians), shift (of the side), log of scale
PARTS = 4  # of a move: angle, shift down, shift right (both of one range), log of scale
FIRST = 0.1  # of HIGH: at 0 Phi is flat, for the draws have either sign
GTOL, ITERATIONS = 1e-4, 300  # of the reference lines
Sets = tuple[Part, Part, Part]


@problem(
    "augment",
    family="augmentation",
    shows="three upper variables and a costly lower level, which sees x through its data alone",
)
def augment(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    turn: float = 60.0,
    draws: int = 8,
    hidden: int = 16,
) -> Problem:
    """Ranges of random transformations of upright training images; those to validate and to test with are turned.

    g = mean over training images i and draws m of CE(y; T_m(x) a_i) + 1e-3 |y|^2, f = mean CE of y on validation
    images, each turned by an angle drawn from U[-turn, turn] degrees, and so the test images. T_m(x) turns an image
    by x_1 u_m1, shifts it by x_2 (u_m2, u_m3) of its side and scales it by exp(x_3 u_m4), with bicubic interpolation
    as in ``torch.nn.functional.grid_sample``, whose second derivatives torch does not have. u_m: fixed draws,
    stratified in each coordinate, of U[-1, 1]^4. So x are half the widths of uniform distributions, 0 <= x_1 <= pi,
    x_2 <= 1/4, x_3 <= log 1.5; x0 is a tenth of that. y: tanh network pixels-hidden-10. ``digits``: 100 training
    images.

    Augmentation learnt by hypergradients is of Lorraine, Vicol, Duvenaud (AISTATS 2020); ranges of transformations of
    Benton, Finzi, Izmailov, Wilson (Augerino, NeurIPS 2020), who learn them on the training loss; a validation set
    that is turned as the test set makes a range that is known: ``turned``, x_1 in degrees, should come near ``turn``,
    and shifts and scales, which validation does not have, should stay small. Shows: few upper variables and a lower
    level that is dear. ``accuracy`` on test images.
    """
    if not 0 <= turn <= 180 or draws < 1 or hidden < 1:
        raise ValueError("turn lies in [0, 180] degrees, draws and hidden are at least 1")
    (train, validation, test), u = _draw(rng, data, turn), _draws(rng, draws)
    A, labels, B, targets, C, marks, u = rng.put(*train, *validation, *test, u)
    high = rng.put(np.array(HIGH))
    network = Network("mlp", A.shape[1], hidden)

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return _loss(network, x, A[rows], labels[rows], u, y)

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        named = zip(("turned", "shifted", "scaled"), (math.degrees(x[0]), float(x[1]), math.exp(x[2])), strict=True)
        return {"accuracy": _accuracy(network, y, C.to(y), marks), **dict(named)}

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(network(y, B[rows]), targets[rows]),
        g=g,
        x0=FIRST * torch.tensor(HIGH, dtype=torch.float64),
        y0=network.start(rng.child("start")),
        n_f=len(targets),
        n_g=len(labels),
        metrics=metrics,
        better={"accuracy": "higher"},
        bar=Bar("accuracy", ("no augmentation", "range of everything", "validation alone")),
        references=functools.partial(_references, rng.seed, data, turn, draws, hidden),
        project_x=lambda x: torch.minimum(torch.clamp(x, min=0), high.to(x)),
        flags=frozenset({"nonconvex", "boundary"}),
    )


def _loss(network: Network, x: Tensor, inputs: Tensor, labels: Tensor, u: Tensor, y: Tensor) -> Tensor:
    images = warped(inputs, torch.cat([x[:2], x[1:]]) * u)
    return cross_entropy(network(y, images.flatten(0, 1)), labels.repeat(len(u))) + DECAY * y @ y


def _draws(rng: Draw, draws: int) -> Tensor:
    """(draws, 4) in [-1, 1], each coordinate once in each of as many equal strata."""
    rng = rng.child("draws")
    places = torch.stack([rng.permutation(draws) for _ in range(PARTS)], 1) + rng.uniform(0, 1, draws, PARTS)
    return 2 * places / draws - 1


def _draw(rng: Draw, data: str, turn: float) -> Sets:
    """Upright training images, then those for validation and testing, each turned by an angle of its own."""
    train, *others = parts(rng, data, SIZES[data])
    turned = []
    for name, part in zip(("validation", "test"), others, strict=True):
        angles = math.radians(turn) * rng.child(name).uniform(-1, 1, len(part.labels))
        v = torch.nn.functional.pad(angles[:, None], (0, PARTS - 1))
        turned.append(Part(paired(torch.from_numpy(part.pixels), v).numpy(), part.labels))
    return train, turned[0], turned[1]


def _accuracy(network: Network, y: Tensor, inputs: Tensor, labels: Tensor) -> float:
    return float((network(y, inputs).argmax(1) == labels).double().mean())


def _references(seed: int, data: str, turn: float, draws: int, hidden: int) -> cache.Lines:
    key = {
        "problem": "augment", "version": 1, "seed": seed, "data": data, "turn": turn, "draws": draws, "hidden": hidden,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("augment", key, lambda: (_solve(seed, data, turn, draws, hidden), how))


def _solve(seed: int, data: str, turn: float, draws: int, hidden: int) -> cache.Lines:
    """Ranges that need no bilevel method, each with the network trained to convergence."""
    rng = Draw(seed)
    made, u = _draw(rng, data, turn), _draws(rng, draws)
    A, labels, B, targets, C, marks = (torch.from_numpy(array) for part in made for array in part)
    network = Network("mlp", A.shape[1], hidden)
    start, zero = network.start(rng.child("start")), torch.zeros(len(HIGH), dtype=torch.float64)
    known = torch.tensor([math.radians(turn), 0.0, 0.0], dtype=torch.float64)
    lines = {
        "no augmentation": (A, labels, zero, u[:1]),
        "range of everything": (A, labels, torch.tensor(HIGH, dtype=torch.float64), u),
        "validation alone": (B, targets, zero, u[:1]),
        "range known": (A, labels, known, u),
    }
    rows = {}
    for name, (inputs, marked, x, drawn) in lines.items():
        loss = functools.partial(_loss, network, x, inputs, marked, drawn)
        y = converge(loss, start, gtol=GTOL, iterations=ITERATIONS)
        phi = float(cross_entropy(network(y, B), targets))
        rows[name] = {"phi": phi, "accuracy": _accuracy(network, y, C, marks)}
    return rows
