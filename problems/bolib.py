"""BOLIB: 165 small problems, most with constraints on both levels, many not convex below, with optima recomputed."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem
from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import suggest
from bilevelbench.lower.level import NoAnswer
from bilevelbench.lower.star import LowerSolution

from ._bolib import STRUCTURES, Bounds, Row, rows

ABSENT = {
    "GumusFloudas2001Ex5": "its formulas were not converted",
    "LuDebSinha2016a": "it is defined in pieces and not smooth",
    "LuDebSinha2016b": "it is defined in pieces and not smooth, and its stated optimum is not one",
    "LuDebSinha2016c": "it is defined in pieces and not smooth",
    "MorganPatrone2006b": "it is defined in pieces",
    "MorganPatrone2006c": "it is defined in pieces",
    "OptimalControl": "it needs a discretised partial differential equation",
    "ShehuEtal2019Ex42": "its data are drawn anew in each call",
}
TRIES = {"program": 200, "line": 200, "several": 0}  # starts drawn anew until the lower level has a solution there
HOW = {
    "program": "optimistic: a second program, f over the set of solutions",
    "line": "optimistic: of the bounds and all stationary points with the least g, the one with the least f",
    "several": "optimistic: of the ends of SLSQP from 20 starts with the least g, the one with the least f",
}


@problem(
    "bolib",
    version=2,
    family="bolib",
    shows="global against local lower solutions, ties, jumps, corners and couplings: 165 small problems as one group",
)
def bolib(rng: Draw, name: str = "Mirrlees1999", start: Literal["uniform", "middle"] = "uniform") -> Problem:
    """One problem of BOLIB version 2 (Zhou, Zemkoho, Tin: "BOLIB: Bilevel Optimization LIBrary of test problems").

    Formulas, bounds and constraints are in ``bolib_rows``, a file for each structure of the lower level: all linear;
    linear or convex quadratic in y (solved by HiGHS and Clarabel); one y (all stationary points); other (SLSQP from 20
    starts). BOLIB's F and f are f and g here, its G and g are h_f and h_g, as far as they are not bounds of X or Y.
    Starts are uniform within the bounds by the seed, or in their middle, 0 where there are none (``middle``); a drawn x
    at which the lower level has no solution is drawn again, where that is cheap to tell. Phi* is the optimistic value,
    recomputed by ``tests/campaigns/bolib.py``, which does not know BOLIB's own; where it could not be certified there
    is none. problems/README.md lists what is wrong in the collection. Eight of its 173 problems are not here.
    """
    if name in ABSENT:
        raise RequestError(f"BOLIB's {name} is not among ours: {ABSENT[name]}")
    if name not in rows():
        raise RequestError(f"BOLIB has no problem {name!r}; {suggest(name, rows())}")
    row = rows()[name]
    (x_low, x_high), (y_low, y_high) = (_box(bounds) for bounds in (row.x, row.y))
    below = LowerSolution(row.F, row.f, row.g, y_low, y_high, method=STRUCTURES[row.structure])
    x0, y0 = _start(rng, row, below, start)
    known = not math.isnan(row.value)
    return Problem(
        f=lambda x, y: row.F(x, y),
        g=lambda x, y: row.f(x, y),
        x0=x0,
        y0=y0,
        y_star=below if row.answer is None else lambda x: torch.full_like(x, row.answer or 0.0) + 0 * x,
        phi_star=row.value if known else None,
        phi_star_source=f"{row.how}, recomputed" if known else "",
        project_x=_projection(x_low, x_high),
        project_y=_projection(y_low, y_high),
        h_f=row.G,
        h_g=row.g,
        flags=frozenset(row.flags),
        selection=HOW[STRUCTURES[row.structure]] if "strongly_convex" not in row.flags else "",
        seeded=start == "uniform",
    )


def _box(bounds: Bounds) -> tuple[Tensor, Tensor]:
    return torch.tensor(bounds[0], dtype=torch.float64), torch.tensor(bounds[1], dtype=torch.float64)


def _projection(low: Tensor, high: Tensor):
    if bool(torch.isinf(low).all() and torch.isinf(high).all()):
        return None
    return lambda point: torch.clamp(point, low.to(point), high.to(point))


def _range(bounds: Bounds, draw: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Where starts are drawn from: between the bounds; as wide as ``draw`` from one bound; ``draw`` where none is."""
    low, high = _box(bounds)
    width = draw[1] - draw[0]
    left = torch.where(torch.isfinite(low), low, torch.where(torch.isfinite(high), high - width, draw[0]))
    right = torch.where(torch.isfinite(high), high, torch.where(torch.isfinite(low), low + width, draw[1]))
    return left, right


def _start(rng: Draw, row: Row, below: LowerSolution, start: str) -> tuple[Tensor, Tensor]:
    if start == "middle":
        x, y = (sum(_range(bounds, (-1.0, 1.0))) / 2 for bounds in (row.x, row.y))
        return torch.as_tensor(x), torch.as_tensor(y)
    x = _drawn(rng, row.x, row.draw)
    y = _drawn(rng, row.y, (-2.0, 2.0))
    again, wide = rng.child("again"), 1.0
    for _ in range(TRIES[below.method] if row.g is not None else 0):
        try:
            below.answer(x)
            break
        except NoAnswer:  # wider and wider: the bounds, if any, may be far from where solutions are
            wide *= 1.02
            x = _drawn(again, row.x, (row.draw[0] * wide, row.draw[1] * wide))
    return x, y


def _drawn(rng: Draw, bounds: Bounds, draw: tuple[float, float]) -> Tensor:
    low, high = _range(bounds, draw)
    return low + (high - low) * rng.uniform(0.0, 1.0, len(low))
