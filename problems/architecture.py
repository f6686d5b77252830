"""Architecture search in a small cell: which operation on each edge, small enough that every net can be trained."""

import functools
import itertools
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge

OPERATIONS = ("identity", "linear", "tanh")
SIZES = {"digits": (300, 300, 1000), "mnist": (5000, 5000, 10000)}  # training, validation, test
EDGES = {2: ((0, 1), (1, 2)), 3: ((0, 1), (0, 2), (1, 2)), 4: ((0, 1), (0, 2), (1, 2), (2, 3))}  # (from, to)
DECAY = 1e-3
GTOL, ITERATIONS = 1e-4, 500  # of the reference lines


class Cell(NamedTuple):
    """The supernet: parameters y = (stem, its bias, a matrix per edge, head, its bias)."""

    edges: tuple[tuple[int, int], ...]
    flat: Flat

    def logits(self, mix: Tensor, y: Tensor, inputs: Tensor) -> Tensor:
        """Class scores with the shares ``mix`` (edges, 3) of the operations."""
        stem, shift, matrices, head, bias = self.flat.split(y)
        nodes = [torch.tanh(torch.addmm(shift, inputs, stem.T))]
        for node in range(1, self.edges[-1][1] + 1):
            found = [self._edge(mix[e], nodes[a], matrices[e]) for e, (a, b) in enumerate(self.edges) if b == node]
            nodes.append(torch.stack(found).sum(0))
        return torch.addmm(bias, nodes[-1], head.T)

    @staticmethod
    def _edge(share: Tensor, h: Tensor, matrix: Tensor) -> Tensor:
        return share[0] * h + share[1] * (h @ matrix.T) + share[2] * torch.tanh(h)

    def loss(self, mix: Tensor, inputs: Tensor, labels: Tensor, y: Tensor) -> Tensor:
        """What the lower level minimises."""
        return cross_entropy(self.logits(mix, y, inputs), labels) + DECAY * y @ y


@problem(
    "architecture",
    family="networks",
    shows="a nonconvex lower level, and a mixed net that is optimised where a discrete one is wanted",
)
def architecture(
    rng: Draw, data: Literal["digits", "mnist"] = "digits", edges: Literal[2, 3, 4] = 2, width: int = 8
) -> Problem:
    """Differentiable architecture search (DARTS) in a cell with three candidate operations on each edge.

    x: 3 logits an edge; an edge answers sum_o softmax(x_e)_o op_o(h) with identity, a linear map, or tanh (of no
    parameters). y: a tanh stem to ``width`` units, one matrix per edge, a linear head.
    g = CE on training images + 1e-3 |y|^2,  f = CE on validation images; x0 = 0. Edges go 0-1, 1-2 (2), also 0-2 (3),
    then 2-3 (4). Liu, Simonyan, Yang (ICLR 2019) for the relaxation; cell and sizes are ours, DARTS on CIFAR-10 is
    out of reach here. All 3^edges discrete nets are trained for the lines "best", "median" and "worst discrete net".
    Shows: a nonconvex lower level, and the distance between the mixed net, which is optimised, and the discrete one,
    which is wanted. ``accuracy``: of the mixed net on test
    images; ``rounded_accuracy``: with the likeliest operation on each edge and the same weights; ``certainty``: mean
    share of the likeliest operation.
    """
    if width < 1:
        raise ValueError("width is at least 1")
    train, validation, test = parts(rng, data, SIZES[data])
    A, t, B, s, C = rng.put(*train, *validation, test.pixels)
    cell, shape = _cell(edges, width, A.shape[1]), (edges, len(OPERATIONS))

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        mix = torch.softmax(x.view(shape), 1)
        rounded = torch.nn.functional.one_hot(mix.argmax(1), len(OPERATIONS)).to(mix)
        accuracy, hard = (_accuracy(test, cell.logits(m, y, C.to(y))) for m in (mix, rounded))
        return {"accuracy": accuracy, "rounded_accuracy": hard, "certainty": float(mix.max(1).values.mean())}

    return Problem(
        f=lambda x, y, rows=...: cross_entropy(cell.logits(torch.softmax(x.view(shape), 1), y, B[rows]), s[rows]),
        g=lambda x, y, rows=...: cell.loss(torch.softmax(x.view(shape), 1), A[rows], t[rows], y),
        x0=torch.zeros(edges * len(OPERATIONS), dtype=torch.float64),
        y0=_start(rng, cell),
        n_f=len(s),
        n_g=len(t),
        metrics=metrics,
        better={"accuracy": "higher", "rounded_accuracy": "higher"},
        bar=Bar("accuracy", ("even mixture (start)", "validation only", "median discrete net")),
        references=functools.partial(_references, rng.seed, data, edges, width),
        flags=frozenset({"nonconvex"}),
        phi_at="doublings",
    )


def _cell(edges: int, width: int, pixels: int) -> Cell:
    return Cell(EDGES[edges], Flat((width, pixels), (width,), (edges, width, width), (10, width), (10,)))


def _start(rng: Draw, cell: Cell) -> Tensor:
    draw = rng.child("start")
    return Flat.join(
        [draw.normal(*shape) / shape[-1] ** 0.5 * (len(shape) > 1) for shape in cell.flat.shapes]
    )  # fmt: skip


def _accuracy(part: Part, logits: Tensor) -> float:
    return float((logits.argmax(1).cpu().numpy() == part.labels).mean())


def _references(seed: int, data: str, edges: int, width: int) -> cache.Lines:
    """Every discrete net, and the even mixture, trained from the start to a local minimum; ranked by validation."""
    key = {
        "problem": "architecture", "version": 1, "seed": seed, "data": data, "edges": edges, "width": width,
        "iterations": ITERATIONS,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("architecture", key, lambda: (_solve(seed, data, edges, width), how))


def _solve(seed: int, data: str, edges: int, width: int) -> cache.Lines:
    train, validation, test = parts(Draw(seed), data, SIZES[data])
    A, t, B, s, C = map(torch.from_numpy, (*train, *validation, test.pixels))
    cell = _cell(edges, width, A.shape[1])
    start = _start(Draw(seed), cell)

    def line(mix: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, float]:
        y = converge(functools.partial(cell.loss, mix, inputs, labels), start, gtol=GTOL, iterations=ITERATIONS)
        return {
            "phi": float(cross_entropy(cell.logits(mix, y, B), s)),
            "accuracy": _accuracy(test, cell.logits(mix, y, C)),
        }

    nets = {}
    for choice in itertools.product(range(len(OPERATIONS)), repeat=edges):
        mix = torch.eye(len(OPERATIONS), dtype=torch.float64)[list(choice)]
        nets[choice] = line(mix, A, t)
    ranked = sorted(nets, key=lambda choice: nets[choice]["phi"])
    even = torch.full((edges, len(OPERATIONS)), 1 / len(OPERATIONS), dtype=torch.float64)
    return {
        "even mixture (start)": line(even, A, t),
        "validation only": line(even, B, s),
        "best discrete net": nets[ranked[0]],
        "median discrete net": nets[ranked[len(ranked) // 2]],
        "worst discrete net": nets[ranked[-1]],
    }
