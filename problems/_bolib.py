"""The formulas of the BOLIB selection: upper and lower objective of each instance, bounds, optimum, structure.

Functions act entry by entry, so that a grid of y can be evaluated at once; in n dimensions an instance is a sum of such
terms, or brings its own y*. Formulas are those of BOLIB (Zhou, Zemkoho, Tin, 2018), written anew; where its listed
optima are wrong (Mirrlees1999, FalkLiu1995, MitsosBarton2006Ex318) the ones here are recomputed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], Tensor]
Range = tuple[float, float]
UNIT = (-1.0, 1.0)
JUMPS = ("nonconvex", "multi_valued", "discontinuous")


@dataclass(frozen=True)
class Instance:
    """f, g: of x and y. phi: the least value of Phi. x, y: bounds, None for the whole line. flags: of the problem.

    draw: range of uniform starts of x where x has no bounds. answer: y*(x) in closed form; otherwise y is one number
    between bounds, and g(x, .) a polynomial of this ``degree`` at most, or close to one.
    """

    f: Function
    g: Function
    phi: float
    x: Range | None = UNIT
    y: Range | None = UNIT
    flags: tuple[str, ...] = JUMPS
    n: int = 1
    draw: Range = (-2.0, 2.0)
    answer: Callable[[Tensor], Tensor] | None = None
    degree: int = 4


def _quartic(y: Tensor) -> Tensor:
    return 16 * y**4 + 2 * y**3 - 8 * y**2 - 1.5 * y + 0.5


def _ex321(x: Tensor, y: Tensor) -> Tensor:
    second, first = -0.02 * x**2 + 0.16 * x - 0.4, 0.004 * x**3 - 0.036 * x**2 + 0.08 * x
    return y**4 + 2 / 15 * (1 - x) * y**3 + second * y**2 + first * y


def _griewank(x: Tensor, y: Tensor) -> Tensor:
    root = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype, device=y.device).sqrt()
    waves = 1 + (y**2).sum(-1) / 4000 - torch.cos(y / root).prod(-1)
    return torch.exp(waves * (x**2).sum(-1))


CLAMPED = ("strongly_convex", "boundary", "kinked")
INSTANCES = {
    "HenrionSurowiec2011": Instance(
        lambda x, y: x**2 + y, lambda x, y: y**2 / 2 - x * y, -0.25,
        x=None, y=None, flags=("strongly_convex",), answer=lambda x: x,
    ),
    "LamparielloSagratella2017Ex32": Instance(
        lambda x, y: x**2 + y**2, lambda x, y: (x + y - 1) ** 2, 0.5,
        x=None, y=None, flags=("strongly_convex",), answer=lambda x: 1 - x,
    ),
    "MacalHurter1997": Instance(
        lambda x, y: (x - 1) ** 2 + (y - 1) ** 2, lambda x, y: y**2 / 2 + 500 * y - 50 * x * y, 302621 / 3721,
        x=None, y=None, flags=("strongly_convex",), draw=(0.0, 20.0), answer=lambda x: 50 * x - 500,
    ),
    "Mirrlees1999": Instance(
        lambda x, y: (x - 2) ** 2 + (y - 1) ** 2,
        lambda x, y: -x * torch.exp(-((y + 1) ** 2)) - torch.exp(-((y - 1) ** 2)), 1.0018059079696253,
        x=(0.0, math.inf), y=(-2.0, 2.0), draw=(0.0, 4.0), degree=60,
    ),
    "MitsosBarton2006Ex310": Instance(
        lambda x, y: y + 0 * x, lambda x, y: x * _quartic(y), 0.5, x=(0.1, 1.0), flags=("nonconvex",),
    ),
    "MitsosBarton2006Ex311": Instance(
        lambda x, y: y + 0 * x, lambda x, y: x * _quartic(y), -0.8, y=(-0.8, 1.0), flags=(*JUMPS, "boundary"),
    ),
    "MitsosBarton2006Ex312": Instance(
        lambda x, y: -x + x * y + 10 * y**2, lambda x, y: -x * y**2 + y**4 / 2, 0.0,
        flags=("nonconvex", "multi_valued", "kinked"),
    ),
    "MitsosBarton2006Ex313": Instance(
        lambda x, y: x - y, lambda x, y: x * y * (y / 2 - x**2), -1.0, flags=(*JUMPS, "boundary"),
    ),
    "MitsosBarton2006Ex314": Instance(
        lambda x, y: (x - 0.25) ** 2 + y**2, lambda x, y: y**3 / 3 - x * y, 0.25,
    ),
    "MitsosBarton2006Ex315": Instance(
        lambda x, y: x + y, lambda x, y: x * y**2 / 2 - y**3 / 3, 0.0, flags=(*JUMPS, "boundary"),
    ),
    "MitsosBarton2006Ex316": Instance(
        lambda x, y: 2 * x + y, lambda x, y: -x * y**2 / 2 - y**4 / 4, -2.0, flags=(*JUMPS, "boundary"),
    ),
    "MitsosBarton2006Ex317": Instance(
        lambda x, y: (x + 0.5) ** 2 + y**2 / 2, lambda x, y: x * y**2 / 2 + y**4 / 4, 0.1875,
        flags=("nonconvex", "multi_valued", "kinked"),
    ),
    "MitsosBarton2006Ex318": Instance(
        lambda x, y: -(x**2) + y**2, lambda x, y: x * y**2 - y**4 / 2, -1.0, flags=(*JUMPS, "boundary"),
    ),
    "MitsosBarton2006Ex319": Instance(
        lambda x, y: (x - 1 + y / 2) * y, lambda x, y: (-x + y**2 / 2) * y**2, -0.2580756164910358,
        flags=("nonconvex", "multi_valued", "kinked"),
    ),
    "MitsosBarton2006Ex320": Instance(
        lambda x, y: (x - 0.25) ** 2 + y**2, lambda x, y: y**3 / 3 - x**2 * y, 0.3125,
    ),
    "MitsosBarton2006Ex321": Instance(
        lambda x, y: (x + 0.6) ** 2 + y**2, _ex321, 0.20950495049504952,
    ),
    "MitsosBarton2006Ex324": Instance(
        lambda x, y: x**2 - y, lambda x, y: ((y - 1 - 0.1 * x) ** 2 - 0.5 - 0.5 * x) ** 2, -1.7547179268252053,
        x=(0.0, 1.0), y=(0.0, 3.0), flags=("nonconvex", "multi_valued"),
    ),
    "PaulaviciusAdjiman2017a": Instance(
        lambda x, y: x**2 + y**2, lambda x, y: x * y**2 - y**4 / 2, 0.25,
    ),
    "PaulaviciusAdjiman2017b": Instance(
        lambda x, y: x + y, lambda x, y: x * y**2 / 2 - x**3 * y, -2.0, flags=(*JUMPS, "boundary"),
    ),
    "DeSilva1978": Instance(
        lambda x, y: (x - 1) ** 2 + y**2 - 1, lambda x, y: (y - x) ** 2, -1.0,
        x=None, y=(0.5, 1.5), n=2, flags=CLAMPED, answer=lambda x: x.clamp(0.5, 1.5),
    ),
    "FalkLiu1995": Instance(
        lambda x, y: (x - 1.5) ** 2 + y**2 - 2.25, lambda x, y: (y - x) ** 2, -2.25,
        x=None, y=(0.5, 1.5), n=2, flags=("strongly_convex", "kinked"), answer=lambda x: x.clamp(0.5, 1.5),
    ),
    "SinhaMaloDeb2014TP9": Instance(
        lambda x, y: (x - 1) ** 2 + y**2, _griewank, 0.0,
        x=None, y=(-math.pi, math.pi), n=10, flags=("nonconvex", "multi_valued"), draw=UNIT,
        answer=torch.zeros_like,
    ),
    "LucchettiEtal1987": Instance(
        lambda x, y: (1 - x) / 2 + x * y, lambda x, y: (x - 1) * y, 0.0,
        x=(0.0, 1.0), y=(0.0, 1.0), flags=("convex", "multi_valued", "discontinuous", "boundary"),
    ),
    "MorganPatrone2006a": Instance(
        lambda x, y: -(x + y), lambda x, y: x * y, -1.0,
        x=(-0.5, 0.5), flags=("convex", "multi_valued", "discontinuous", "boundary"),
    ),
    "KleniatiAdjiman2014Ex3": Instance(
        lambda x, y: x - y, lambda x, y: x * y**2 / 2 - x * y**3, -1.0, flags=(*JUMPS, "boundary"),
    ),
}  # fmt: skip
