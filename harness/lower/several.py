"""Lower levels of several y without a structure that a program knows: SLSQP from many starts."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from .derivative import slopes
from .level import Answer, Level, NoAnswer
from .program import EMPTY

STARTS = 20  # uniform in the bounds, [-WIDE, WIDE] where there are none, the same ones at every x
WIDE = 5.0
ACCURATE = 1e-7  # of the size of its terms: what the ends of SLSQP are feasible and tied to


def several(level: Level, x: Tensor) -> Answer:
    """The best end of SLSQP from 20 starts, of ends with equal g the one with the least f. Global as far as those lead.

    Raises NoAnswer where no start leads to a feasible point.
    """
    x64 = x.detach().double().cpu()
    ends = [end for end in (_descend(level, x64, start) for start in _starts(level)) if end is not None]
    if not ends:
        raise NoAnswer(EMPTY)
    values = np.array([float(level.g(x64, torch.from_numpy(end))) for end in ends])
    tied = [ends[k] for k in np.flatnonzero(values <= values.min() + ACCURATE * (1 + abs(values.min())))]
    y = torch.from_numpy(min(tied, key=lambda end: float(level.f(x64, torch.from_numpy(end)))))
    spread = max(np.abs(end - y.numpy()).max() for end in tied)
    return _answer(level, x64, y, bool(spread <= 1e-3 * (1 + np.abs(y.numpy()).max())))


def _starts(level: Level) -> np.ndarray:
    low, high = level.low.clamp(min=-WIDE).numpy(), level.high.clamp(max=WIDE).numpy()
    high = np.maximum(high, low)
    drawn = np.random.default_rng(0).uniform(low, high, (STARTS - 1, len(low)))
    return np.vstack([(low + high) / 2, drawn])


def _descend(level: Level, x: Tensor, start: np.ndarray) -> np.ndarray | None:
    def point(y: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(y))

    rows = {"type": "ineq", "fun": lambda y: -level.rows(x, point(y)).detach().numpy(),
            "jac": lambda y: -slopes(level, x, point(y))[1].numpy()}  # fmt: skip
    bound = bool(level.rows(x, point(start)).numel())
    found = minimize(
        lambda y: float(level.g(x, point(y))), start, jac=lambda y: slopes(level, x, point(y))[0].numpy(),
        method="SLSQP", constraints=[rows] if bound else [], options={"ftol": 1e-13, "maxiter": 300},
    )  # fmt: skip
    y = np.clip(found.x, level.low.numpy(), level.high.numpy())
    return y if np.isfinite(y).all() and level.violation(x, point(y)) <= ACCURATE else None


def _answer(level: Level, x: Tensor, y: Tensor, unique: bool) -> Answer:
    rows = level.rows(x, y).detach()
    active = rows.abs() <= 10 * ACCURATE
    multipliers = torch.zeros_like(rows)
    if bool(active.any()):
        slope, jacobian = slopes(level, x, y)
        multipliers[active] = torch.from_numpy(nnls(jacobian[active].T.numpy(), -slope.numpy(), maxiter=1000)[0])
    return Answer(y, multipliers, active, unique)
