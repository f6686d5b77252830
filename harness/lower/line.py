"""Lower levels with one y, convex or not: all stationary points of g and all ends of the feasible set are looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.polynomial import Chebyshev
from torch import Tensor

from .derivative import slopes
from .level import FEASIBLE, Answer, Function, Level, NoAnswer
from .program import EMPTY, ENDLESS

Along = Callable[[np.ndarray], np.ndarray]
TIE = 1e-12  # of g, relative to its range on the candidates, within which solutions count as equally good
DEGREE = 60  # of the polynomials that g and the constraints are replaced by; polynomials below that are exact
NOISE = 1e-14  # of the largest coefficient: what a coefficient may be by rounding
FAR = 100.0  # where y has no bound: how far from 0 solutions are looked for


def line(level: Level, x: Tensor) -> Answer:
    """The solution at x, global, of several one with the least f. NoAnswer where nothing is feasible or g falls on.

    Candidates are the bounds, the roots of the constraints and the roots of g's derivative, all as roots of Chebyshev
    interpolants. Where y has no bound, 100 takes its place.
    """
    low, high = (float(bound) for bound in (level.low.clamp(min=-FAR), level.high.clamp(max=FAR)))
    x64 = x.detach().double().cpu()

    def along(function: Function) -> Along:
        at = torch.func.vmap(lambda y: function(x64, y))

        def values(y: np.ndarray) -> np.ndarray:
            found: np.ndarray = at(torch.from_numpy(np.asarray(y, float))[:, None]).numpy()
            return found

        return values

    ends = np.array([low, high])
    if level.h_g is not None:
        h = along(level.h_g)
        roots = [_roots(partial(_row, h, k), low, high) for k in range(h(ends).shape[1])]
        ends = np.unique(np.concatenate([ends, *roots]))
        ends = ends[_feasible(h, ends)]
    if not len(ends):
        raise NoAnswer(EMPTY)
    g = along(level.g)
    candidates = np.unique(np.r_[ends, _roots(g, ends[0], ends[-1], derivative=True)])
    if level.h_g is not None:
        candidates = candidates[_feasible(h, candidates)]
    values = g(candidates)
    tied = candidates[values <= values.min() + TIE * (1 + np.abs(values).max())]
    f = [float(level.f(x64, torch.from_numpy(tied[k : k + 1]))) for k in range(len(tied))]
    best = tied[int(np.argmin(f))]
    if abs(best) == FAR:
        raise NoAnswer(ENDLESS)
    return _answer(level, x64, torch.tensor([best]), len(tied) == 1)


def _row(h: Along, k: int, y: np.ndarray) -> np.ndarray:
    row: np.ndarray = h(y)[:, k]
    return row


def _feasible(h: Along, y: np.ndarray) -> np.ndarray:
    return (h(y) <= FEASIBLE * (1 + np.abs(y[:, None]))).all(1)


def _roots(function: Along, low: float, high: float, derivative: bool = False) -> np.ndarray:
    """Roots of a function, or of its derivative, inside an interval, by way of its interpolant."""
    if not low < high:
        return np.zeros(0)
    found = Chebyshev.interpolate(function, DEGREE, (low, high))
    found = found.trim(NOISE * DEGREE * float(np.abs(found.coef).max(initial=0.0)))
    found = found.deriv() if derivative else found
    if found.degree() < 1:
        return np.zeros(0)
    roots = found.roots()
    near = roots.real[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots.real))]
    return near[(near > low) & (near < high)]


def _answer(level: Level, x: Tensor, y: Tensor, unique: bool) -> Answer:
    """With a multiplier for one active row, the one that holds y most firmly: one y needs no more."""
    rows = level.rows(x, y).detach()
    active = rows.abs() <= FEASIBLE * (1 + y.abs())
    multipliers = torch.zeros_like(rows)
    if bool(active.any()):
        slope, jacobian = slopes(level, x, y)
        push = torch.where(active & (jacobian[:, 0] * slope < 0), jacobian[:, 0].abs(), 0.0)
        k = int(push.argmax())
        if push[k] > 0:
            multipliers[k] = slope[0].abs() / push[k]
    return Answer(y, multipliers, active, unique)
