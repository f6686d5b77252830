"""The counted door: the only way from a solver to f and g.

Answers are detached, so nothing can be differentiated around the counters.
"""

from __future__ import annotations

from torch import Tensor

from .at import At
from .constraints import Constraints


class Oracle(Constraints):
    """Answers about one problem, counted.

    Shapes: x (n_x,), y and v (n_y,); values are scalars, gradients have the shape of their variable. ``rows`` is an
    optional minibatch, a tensor of row indices from ``draw_f`` or ``draw_g``; without it, and with None, all rows.

    Answers are counted in a ``Tally``, which is not a solver's to write: ``calls`` and ``rows`` are copies.
    ``begin(step)`` is the harness's: it says which step comes, so that minibatches depend on (seed, stream, step) and
    on nothing else.

    ``at(x, y)`` keeps the graphs of f and g at a point, where several things are asked; its questions are these, and
    hand it on as ``at``.
    """

    def at(self, x: Tensor, y: Tensor, order: int = 2) -> At:
        """The point (x, y), to be asked several things; products with second derivatives only where ``order`` is 2.

        It asks nothing itself.
        """
        return At(self, x, y, order)

    # -- the upper objective

    def f(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """f(x, y)."""
        engine, given = self._count("f", self._problem.n_f, rows, at)
        return engine.value(self._problem.f, x, y, *given)

    def df(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> tuple[Tensor, Tensor]:
        """(df/dx, df/dy)."""
        engine, given = self._count("df", self._problem.n_f, rows, at)
        return engine.grad(self._problem.f, x, y, *given)

    def df_x(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """df/dx."""
        engine, given = self._count("df_x", self._problem.n_f, rows, at)
        return engine.grad_x(self._problem.f, x, y, *given)

    def df_y(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """df/dy."""
        engine, given = self._count("df_y", self._problem.n_f, rows, at)
        return engine.grad_y(self._problem.f, x, y, *given)

    def d2f(
        self, x: Tensor, y: Tensor, v: Tensor, rows: Tensor | None = None, at: At | None = None
    ) -> tuple[Tensor, Tensor]:
        """(d2f/dxdy v, d2f/dydy v): both products by one double backward."""
        engine, given = self._count("d2f", self._problem.n_f, rows, at)
        cross, hessian = engine.second(self._problem.f, x, y, v, *given)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    # -- the lower objective

    def g(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """g(x, y)."""
        engine, given = self._count("g", self._problem.n_g, rows, at)
        return engine.value(self._problem.g, x, y, *given)

    def dg(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> tuple[Tensor, Tensor]:
        """(dg/dx, dg/dy)."""
        engine, given = self._count("dg", self._problem.n_g, rows, at)
        return engine.grad(self._problem.g, x, y, *given)

    def dg_x(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """dg/dx."""
        engine, given = self._count("dg_x", self._problem.n_g, rows, at)
        return engine.grad_x(self._problem.g, x, y, *given)

    def dg_y(self, x: Tensor, y: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """dg/dy."""
        engine, given = self._count("dg_y", self._problem.n_g, rows, at)
        return engine.grad_y(self._problem.g, x, y, *given)

    def d2g(
        self, x: Tensor, y: Tensor, v: Tensor, rows: Tensor | None = None, at: At | None = None
    ) -> tuple[Tensor, Tensor]:
        """(d2g/dxdy v, d2g/dydy v): both products by one double backward."""
        engine, given = self._count("d2g", self._problem.n_g, rows, at)
        cross, hessian = engine.second(self._problem.g, x, y, v, *given)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    def d2g_xy(self, x: Tensor, y: Tensor, v: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """d2g/dxdy v, the gradient in x of <dg/dy, v>."""
        engine, given = self._count("d2g_xy", self._problem.n_g, rows, at)
        cross, _ = engine.second(self._problem.g, x, y, v, *given, wrt="x")
        assert cross is not None
        return cross

    def d2g_yy(self, x: Tensor, y: Tensor, v: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """d2g/dydy v, the Hessian of g(x, .) times v."""
        engine, given = self._count("d2g_yy", self._problem.n_g, rows, at)
        _, hessian = engine.second(self._problem.g, x, y, v, *given, wrt="y")
        assert hessian is not None
        return hessian

    def d2g_yx(self, x: Tensor, y: Tensor, u: Tensor, rows: Tensor | None = None, at: At | None = None) -> Tensor:
        """d2g/dydx u, the gradient in y of <dg/dx, u>, u of shape (n_x,)."""
        engine, given = self._count("d2g_yx", self._problem.n_g, rows, at)
        return engine.cross_transposed(self._problem.g, x, y, u, *given)
