"""y*(x) solved again by Newton's method, until a step is as small as rounding allows: no tolerance has a unit.

The step itself, H^-1 times the gradient, is what is still missing, and so the error that is stated. Where y is short H
is at hand as a matrix, otherwise its products are (conjugate gradients). Where Newton's method stalls L-BFGS goes on,
then Newton's method once more, and with the matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .inverse import NOT_FINITE, Dense, Factor, Inverse, Iterated
from .level import Level, Spent

SHORT, MOST_SHORT = 200, 1500  # variables up to which the Hessian is made as a matrix, and as a last resort
FINE = {True: 1e-15, False: 1e-12}  # a step this small, beside y, ends it: with the matrix, without
NEAR = 1e-4  # beside y: from there on steps are taken in full, and may be found to shrink no further
SHRINKS = 0.7  # of the last step; what shrinks less, near y*, is rounding
ROUNDING = 1e4  # of the dtype's eps: a gradient this small beside |H| |y| may be all rounding
METHODS = ("newton", "lbfgs", "newton", "matrix")
SETTLED = 1e-6  # of the first gradient: how far L-BFGS goes
NEEDS_MORE = "the re-solve of the lower level had"
STALLED = "no step lowers g any further, and its gradient does not vanish"
STEPS = 100  # of Newton's method
CUTS = 20  # of a step that is too long


class Found(NamedTuple):
    """A point, how far it may be from y* (a norm), and H^-1 there, as far as variables are free; the gradient of g.

    ``why`` it is no minimiser, as far as can be told; '' where it is. ``STALLED`` leaves that to the error.
    """

    y: Tensor
    error: float
    inverse: Inverse | None
    free: Tensor | None
    slope: Tensor
    why: str


def solve(level: Level, start: Tensor, convex: bool = True, factor: Factor | None = None) -> Found:
    """A minimiser of g(x, .) near ``start``, by whichever method gets there.

    ``factor``: of a Hessian near by, see ``Nearby``. L-BFGS goes first where g(x, .) is not ``convex``: Newton's
    steps would leave the basin that ``start`` is in.
    """
    n = start.numel()
    dense = n <= SHORT
    last = Found(start, math.inf, None, None, torch.zeros_like(start), "")
    try:
        for method in METHODS if convex else ("lbfgs", *METHODS):
            if method == "lbfgs":
                last = last._replace(y=_lbfgs(level, last.y))
            elif method == "newton" or (not dense and n <= MOST_SHORT):
                last = _newton(level, last, dense or method == "matrix", factor)
                if last.why == NOT_FINITE and level.twice:  # as where torch's formula meets an infinity times 0
                    level.twice = False
                    last = _newton(level, last, dense, factor)
                if not last.why:
                    break
    except Spent as spent:
        best = getattr(spent, "best", last)
        return best._replace(why=f"{NEEDS_MORE} {level.allowance:.0f} gradients and needs more")
    return last


class Nearby(NamedTuple):
    """The ``factor`` of the Hessian at a point near by, which makes a re-solve cheap, for looks that follow each other;
    and what they have ``asked`` for since it was made.

    It takes as much as n / 2 gradients. It is made once looks have asked for half of that, for two such looks pay for
    it; and anew once looks that had one have asked for twice as much.
    """

    factor: Factor | None = None
    asked: float = 0.0

    def after(self, level: Level, found: Found) -> Nearby:
        """That of the next look, where one has ended at ``found``: another factor where y is short enough, it pays, and
        this look may ask for it."""
        n, asked = found.y.numel(), self.asked + level.asked
        pays = asked > (n if self.factor else n / 4) and level.asked + n / 2 + 1 <= level.allowance
        if found.why or not level.twice or not SHORT < n <= MOST_SHORT or not pays:
            return self._replace(asked=asked)
        try:
            return Nearby(Factor.of(level, found.y) or self.factor)
        except Spent:  # products that cannot be batched ask for twice as much and more
            return Nearby(self.factor)


def _newton(level: Level, begin: Found, dense: bool, factor: Factor | None = None) -> Found:
    """Newton's method with a line search, then in full steps."""
    y = level.inside(begin.y)
    now = begin._replace(y=y)
    before, least, tight, stalls, fine = math.inf, math.inf, False, 0, FINE[dense] if level.twice else 1e-12
    try:
        value, slope = level.look(y)
        for _ in range(STEPS):
            if not (math.isfinite(value) and bool(torch.isfinite(slope).all())):
                return now._replace(why="g or its gradient is not finite at the re-solved lower level")
            free = level.free(y, slope)
            inverse: Inverse = Dense(level, y, free) if dense else Iterated(level, y, free, factor)
            held = slope if free is None else torch.where(free, slope, 0.0)
            comparable, tight = tight or dense, before <= 1e-2 * float(y.norm())
            found = inverse(held, 1e-4 if tight else 1e-1, length=float(y.norm()))
            if tight and found.convex and found.off > 0.1 * float(found.vector.norm()):  # the least curvature is small
                found = inverse(held, 1e-8, near=found.vector, length=float(y.norm()))
            size = float(found.vector.norm()) + found.off * (not dense)
            now = Found(y, size, inverse, free, held, "")
            scale = float(y.norm())
            if size <= fine * scale or not size:
                return _certified(now, found.convex)
            if size <= NEAR * scale:
                stalls = stalls + 1 if comparable and size > SHRINKS * before else 0
                rounding = ROUNDING * torch.finfo(y.dtype).eps * inverse.largest * scale
                if stalls > (not dense) and (float(held.norm()) <= rounding or stalls > 2):
                    return _certified(now._replace(error=3 * max(size, before)), found.convex)
                y = level.inside(y - found.vector)
                value, slope = level.look(y)
            else:
                # y* at nought is never near beside its own length: steps shrink no further there, and g shows nothing
                shown = abs(float(slope @ found.vector)) > 10 * torch.finfo(y.dtype).eps * abs(value)
                stalls = stalls + 1 if not shown and size > SHRINKS * least else 0
                stepped = None if stalls > 2 else _search(level, y, -found.vector, value, slope)
                if stepped is None:
                    return _certified(now._replace(error=10 * size, why=STALLED), found.convex)
                y, value, slope = stepped
            before, least = size, min(least, size)
    except Spent as spent:
        spent.best = now._replace(y=y)  # type: ignore[attr-defined]
        raise
    except ArithmeticError as error:
        return now._replace(y=y, why=str(error))
    return now._replace(y=y, why=f"{STEPS} Newton steps do not settle: g may have no minimum")


def _certified(found: Found, convex: bool) -> Found:
    if convex:
        return found
    return found._replace(why="the re-solve ends where g has negative curvature: no minimum")


def _search(level: Level, y: Tensor, along: Tensor, value: float, slope: Tensor) -> tuple[Tensor, float, Tensor] | None:
    """The first of y + along, y + along / 4, ... that lowers g enough, or its slope where g shows only rounding."""
    down, size = float(slope @ along), 1.0
    eps = torch.finfo(y.dtype).eps
    for _ in range(CUTS):
        there = level.inside(y + size * along)
        new, new_slope = level.look(there)
        if math.isfinite(new):
            moved = float(slope @ (there - y)) if level.bounds is not None else size * down
            flat = abs(float(new_slope @ along)) <= 0.9 * abs(down)
            if new <= value + 1e-4 * moved or (flat and new <= value + 10 * eps * (abs(value) + abs(new))):
                return there, new, new_slope
        size /= 4
    return None


def _lbfgs(level: Level, start: Tensor) -> Tensor:
    """L-BFGS in units of its own: of y the length of a first step, of g such that its gradient begins at 1."""
    value, slope = level.look(start)
    unit = float(start.norm()) / math.sqrt(start.numel()) or 1.0
    scale = unit * float(slope.norm()) or 1.0
    best = (value, start)

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        y = torch.from_numpy(unit * vector).to(start)
        now, slope = level.look(y)
        best = min(best, (now, y), key=lambda pair: pair[0])
        return (now - value) / scale, (slope * (unit / scale)).detach().cpu().double().numpy()

    bounds = None
    if level.bounds is not None:
        low, high = ((bound / unit).tolist() for bound in level.bounds)
        bounds = list(zip(low, high, strict=True))
    options = {"gtol": SETTLED / math.sqrt(start.numel()), "ftol": 0.0, "maxcor": 20, "maxiter": 2000}
    begin = (start / unit).detach().cpu().double().numpy()
    try:
        minimize(fun, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    except Spent as spent:
        spent.best = Found(best[1], math.inf, None, None, torch.zeros_like(start), "")  # type: ignore[attr-defined]
        raise
    return best[1]
