"""Pruning: a mask of the weights above, the weights below."""

import functools
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Problem, box, problem
from bilevelbench.data import cache
from bilevelbench.data.images import parts

from ._converge import converge
from ._networks import Network

SIZES = {"digits": (500, 300, 900), "mnist": (5000, 5000, 10000)}  # training, validation, test images
DECAY = 1e-3
GTOL, ITERATIONS = 1e-4, 300  # of the reference lines and of the retrained network


@problem(
    "prune",
    family="pruning",
    shows="masks near 0 and 1: a gradient that vanishes with the weight, and an outcome that is judged by ranks",
)
def prune(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    hidden: int = 16,
    price: float = 1e-3,
    share: float = 0.1,
) -> Problem:
    """Which weights of a network can go: x in [0, 1] multiplies them, y are the weights.

    g = mean CE(x * y) on training images + 1e-3 |y|^2, f = mean CE(x * y) on validation images + price * sum_j x_j;
    y: tanh network pixels-hidden-10 with its biases, which are not masked; x0 = 1, the dense network. The bilevel
    view of pruning of Zhang, Yao, Ram, Zhao, Chen, Hong, Wang, Liu (BiP, NeurIPS 2022), who take the training set in
    both levels, start from a trained dense network, and hold the number of ones instead of pricing them.

    The bounds of [0, 1] are active at many coordinates; a weight that is 0 gives its mask no gradient, and a mask
    that is 0 gives its weight none but decay. ``accuracy``: on test images, of x * y with the ``share`` of weights
    with the largest masks (where masks tie: with the largest |x y|), the others cut to 0, to be held against lines
    that were retrained under their cut; ``retrained_accuracy``: of the weights trained anew, from the start, under that
    cut (last look); ``kept``: the mean of x.
    """
    if not 0 < share <= 1 or hidden < 1 or price < 0:
        raise ValueError("share lies in (0, 1], hidden is at least 1, and price is not negative")
    made = parts(rng, data, SIZES[data])
    A, labels, B, targets, C, test = rng.put(*(array for part in made for array in part))
    network = Network("mlp", A.shape[1], hidden)
    weights = rng.put(masked(network))
    y0 = network.start(rng.child("start"))

    def spread(x: Tensor) -> Tensor:
        """The mask of all parameters: 1 at biases."""
        return torch.ones_like(x[:1]).expand(network.flat.size).index_copy(0, weights, x)

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        cut = spread(hard(x, y[weights], share))
        return {"accuracy": accuracy(network, cut * spread(x) * y, C.to(y), test), "kept": float(x.mean())}

    def final(x: Tensor, y: Tensor) -> dict[str, float]:
        cut = hard(x, y[weights], share).cpu().double()
        return {"retrained_accuracy": _Bench(rng.seed, data, hidden).retrained(cut)[0]["retrained_accuracy"]}

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(network(spread(x) * y, B[rows]), targets[rows]) + price * x.sum(),
        g=lambda x, y, rows=...: cross_entropy(network(spread(x) * y, A[rows]), labels[rows]) + DECAY * y @ y,
        x0=torch.ones(len(weights), dtype=torch.float64),
        y0=y0,
        n_f=len(targets),
        n_g=len(labels),
        metrics=metrics,
        final=final,
        better={"accuracy": "higher", "retrained_accuracy": "higher"},
        bar=Bar("accuracy", ("magnitude pruning", "random mask")),
        references=functools.partial(_references, rng.seed, data, hidden, price, share),
        project_x=box(0.0, 1.0),
        flags=frozenset({"nonconvex", "boundary"}),
        phi_at="doublings",
    )


def masked(network: Network) -> Tensor:
    """Where the weights, as against biases, lie in y, int64."""
    sizes, kept, place = network.flat.sizes, [], 0
    for size, shape in zip(sizes, network.flat.shapes, strict=True):
        if len(shape) > 1:
            kept.append(torch.arange(place, place + size))
        place += size
    return torch.cat(kept)


def hard(mask: Tensor, weights: Tensor, share: float) -> Tensor:
    """1 at the ``share`` of largest masks, ties by the size of mask times weight, else 0; all of shape (n,)."""
    order = (mask * weights).abs().argsort(descending=True, stable=True)
    order = order[mask[order].argsort(descending=True, stable=True)]
    cut = torch.zeros_like(mask)
    cut[order[: max(1, round(share * len(mask)))]] = 1
    return cut


def accuracy(network: Network, parameters: Tensor, inputs: Tensor, labels: Tensor) -> float:
    """The share of ``inputs`` (n, pixels) whose label the network finds."""
    return float((network(parameters, inputs).argmax(1) == labels).double().mean())


class _Bench:
    """What networks are trained anew with, on the CPU in float64."""

    def __init__(self, seed: int, data: str, hidden: int) -> None:
        rng = Draw(seed)
        made = parts(rng, data, SIZES[data])
        self.train, self.validation, self.test = ([torch.from_numpy(array) for array in part] for part in made)
        self.network = Network("mlp", self.train[0].shape[1], hidden)
        self.weights = masked(self.network)
        self.start = self.network.start(rng.child("start"))

    def retrained(self, cut: Tensor, price: float = 0.0) -> tuple[dict[str, float], Tensor]:
        """Figures and parameters of the network that L-BFGS finds from the start under a mask (weights,) of 0 and 1."""
        mask = torch.ones_like(self.start).index_copy(0, self.weights, cut)
        A, labels = self.train
        y = converge(
            lambda y: cross_entropy(self.network(mask * y, A), labels) + DECAY * y @ y,
            self.start, gtol=GTOL, iterations=ITERATIONS,
        )  # fmt: skip
        B, targets = self.validation
        phi = float(cross_entropy(self.network(mask * y, B), targets) + price * cut.sum())
        return {"phi": phi, "retrained_accuracy": accuracy(self.network, mask * y, *self.test)}, y


def _references(seed: int, data: str, hidden: int, price: float, share: float) -> cache.Lines:
    key = {
        "problem": "prune", "version": 2, "seed": seed, "data": data, "hidden": hidden, "price": price, "share": share,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("prune", key, lambda: (_solve(seed, data, hidden, price, share), how))


def _solve(seed: int, data: str, hidden: int, price: float, share: float) -> cache.Lines:
    """Masks that need no bilevel method, each with the network trained anew under it."""
    bench = _Bench(seed, data, hidden)
    ones = torch.ones(len(bench.weights), dtype=torch.float64)
    drawn = Draw(seed).child("random mask").uniform(0, 1, len(ones))
    dense, y = bench.retrained(ones, price)
    magnitude, random = (hard(mask, y[bench.weights], share) for mask in (ones, drawn))
    lines = {"magnitude pruning": magnitude, "random mask": random}
    made = {name: bench.retrained(cut, price)[0] for name, cut in lines.items()}
    for line in made.values():  # at (cut, y*(cut)) the two figures are one
        line["accuracy"] = line["retrained_accuracy"]
    return {"dense (start)": dense, **made}
