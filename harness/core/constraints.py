"""What an oracle answers about X and Y: projections, and constraints between x and y."""

from __future__ import annotations

import torch
from torch import Tensor

from . import derive
from .door import Door
from .errors import Unsupported
from .meter import PASSES


class Constraints(Door):
    """Answers about the bounds and constraints of one problem, counted. Shapes: x (n_x,), y (n_y,)."""

    # -- bounds: one rule for all. Every update of a point in X or Y goes through these.

    def project_x(self, x: Tensor) -> Tensor:
        """The projection of x on X; x itself where the problem has no bounds."""
        if self._problem.project_x is None:
            return x
        next(self._ticks["project_x", None, "f"])
        return self._problem.project_x(x)

    def project_y(self, y: Tensor) -> Tensor:
        """The projection of y on Y; y itself where the problem has no bounds."""
        if self._problem.project_y is None:
            return y
        next(self._ticks["project_y", None, "f"])
        return self._problem.project_y(y)

    def project_y_back(self, y: Tensor, v: Tensor) -> Tensor:
        """v times the Jacobian of ``project_y`` at the point y (before projection), for methods that unroll."""
        if self._problem.project_y is None:
            return v
        next(self._ticks["project_y_back", None, "fb"])
        return self._engine.pull_one(self._problem.project_y, y, v)

    # -- constraints between x and y

    def project_xy(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The projection of (x, y) on the points of X times Y that satisfy the lower level's constraints."""
        if self._problem.project_xy is None:
            if self._problem.h_g is not None:
                raise Unsupported("this problem has lower-level constraints and no projection on them in (x, y)")
            return self.project_x(x), self.project_y(y)
        next(self._ticks["project_xy", None, "f"])
        return self._problem.project_xy(x, y)

    def h_f(self, x: Tensor, y: Tensor) -> Tensor:
        """Values of the upper level's constraints h_f(x, y) <= 0, shape (m,); empty where there are none."""
        return self._values("h_f", self._problem.h_f, x, y)

    def dh_f(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """w, shape (m,), times the Jacobians of h_f in x and in y; zero where there are no constraints."""
        in_x, in_y = self._pull("dh_f", self._problem.h_f, x, y, w, "xy")
        return in_x, in_y

    def h_g(self, x: Tensor, y: Tensor) -> Tensor:
        """Values of the lower level's constraints h_g(x, y) <= 0, shape (m,); empty where there are none."""
        return self._values("h_g", self._problem.h_g, x, y)

    def dh_g(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """w, shape (m,), times the Jacobians of h_g in x and in y; zero where there are no constraints."""
        in_x, in_y = self._pull("dh_g", self._problem.h_g, x, y, w, "xy")
        return in_x, in_y

    def dh_g_x(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """w times the Jacobian of h_g in x."""
        return self._pull("dh_g_x", self._problem.h_g, x, y, w, "x")[0]

    def dh_g_y(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """w times the Jacobian of h_g in y."""
        return self._pull("dh_g_y", self._problem.h_g, x, y, w, "y")[0]

    def _values(self, kind: str, h: derive.Function | None, x: Tensor, y: Tensor) -> Tensor:
        if h is None:
            return x.new_zeros(0)
        next(self._ticks[kind, None, PASSES[kind]])
        return self._engine.value(h, x, y)

    def _pull(
        self, kind: str, h: derive.Function | None, x: Tensor, y: Tensor, w: Tensor, wrt: str
    ) -> tuple[Tensor, ...]:
        if h is None:
            return tuple(torch.zeros_like({"x": x, "y": y}[name]) for name in wrt)
        next(self._ticks[kind, None, PASSES[kind]])
        return self._engine.pullback(h, x, y, w, wrt)
