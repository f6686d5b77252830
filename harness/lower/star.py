"""y*(x) for a problem whose lower level has constraints: found by a library, differentiable by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bilevelbench.core.errors import RequestError

from .derivative import attached
from .level import Answer, Function, Level
from .line import line
from .polyhedral import program
from .several import several

Method = Literal["program", "line", "several"]
METHODS: dict[str, Callable[[Level, Tensor], Answer]] = {"program": program, "line": line, "several": several}


class LowerSolution:
    """x -> y*(x) = argmin {g(x, y): h_g(x, y) <= 0, low <= y <= high}, for ``Problem.y_star``.

    ``answer(x)`` gives the multipliers, too, and says whether y*(x) is unique and whether x is at a kink.

    Parameters
    ----------
    f
        The upper objective, by which the optimistic one of several solutions is chosen.
    g, h_g
        The lower objective and its constraints, as a ``Problem`` has them; None where there are none.
    low, high
        Bounds of y, of shape (n_y,); infinite where there is none.
    method
        "program", g(x, .) convex quadratic or linear and h_g(x, .) affine (HiGHS, Clarabel); "line", one y, any g;
        "several", SLSQP from 20 starts, global as far as those lead.

    Raises
    ------
    RequestError
        Where g is not what the method needs. Called, it raises ``lower.level.NoAnswer`` where the lower level is
        infeasible or unbounded at x.
    """

    def __init__(
        self, f: Function, g: Function, h_g: Function | None, low: Tensor, high: Tensor, method: Method = "program"
    ) -> None:
        if method not in METHODS:
            raise RequestError(f"method={method!r} is not valid; it is one of {', '.join(METHODS)}")
        if method == "line" and low.numel() != 1:
            raise RequestError(f"method='line' is for one y, not for {low.numel()}; 'program' or 'several' take more")
        low, high = (bound.detach().double().cpu() for bound in (low, high))
        self.level, self.method = Level(f, g, h_g, low, high), method

    def answer(self, x: Tensor) -> Answer:
        """The solution at x, shape (n_x,), with its multipliers."""
        with torch.no_grad():
            return METHODS[self.method](self.level, x.detach().double().cpu())

    def __call__(self, x: Tensor) -> Tensor:
        return attached(self.level, x, self.answer(x))
