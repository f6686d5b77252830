"""A frozen copy of the eager engine and the counting oracle, to be measured against. Not to be improved.

The step over floor cannot see a slower derivative where both sides slow down. This copy does not. Replace it, in a
commit of its own that says why, when the oracle is to take longer than it did, or has become so much faster that a
slow-down of it would hide behind the old copy.
"""

from collections import Counter

import torch

_backward = torch.autograd.Variable._execution_engine.run_backward


def _grad(value, points, along=None, create_graph=False, keep=False):
    if not value.requires_grad:
        return tuple(torch.zeros_like(p) for p in points)
    if along is None:
        along = torch.ones_like(value)
    assert along.shape == value.shape
    keep = keep or create_graph
    found = _backward((value,), (along,), keep, create_graph, points, allow_unreachable=True, accumulate_grad=False)
    assert found[0] is not None
    assert found[-1] is not None
    return found


def _leaf(point):
    return point.detach().requires_grad_()


def _value(fn, x, y, *rows):
    with torch.no_grad():
        return fn(x.detach(), y.detach(), *rows)


def _both(fn, x, y, *rows):
    x, y = _leaf(x), _leaf(y)
    gx, gy = _grad(fn(x, y, *rows), (x, y))
    return gx, gy


def _grad_x(fn, x, y, *rows):
    x = _leaf(x)
    return _grad(fn(x, y.detach(), *rows), (x,))[0]


def _grad_y(fn, x, y, *rows):
    y = _leaf(y)
    return _grad(fn(x.detach(), y, *rows), (y,))[0]


def _second(fn, x, y, v, *rows, wrt="xy"):
    y = _leaf(y)
    x = _leaf(x) if "x" in wrt else x.detach()
    (gy,) = _grad(fn(x, y, *rows), (y,), create_graph=True)
    wanted = tuple(p for p, name in ((x, "x"), (y, "y")) if name in wrt)
    products = iter(_grad(gy, wanted, v.detach()))
    return next(products) if "x" in wrt else None, next(products) if "y" in wrt else None


class FrozenAt:
    """Answers about g at one point, whose graph is kept."""

    def __init__(self, oracle, x, y):
        self._oracle, self._x, self._y = oracle, _leaf(x), _leaf(y)
        self._gy = None

    def dg_y(self):
        self._oracle._count("dg_y", self._oracle._problem.n_g, ())
        if self._gy is None:
            (self._gy,) = _grad(self._oracle._problem.g(self._x, self._y), (self._y,), create_graph=True)
        return self._gy.detach()

    def d2g_yy(self, v):
        self._oracle._count("d2g_yy", self._oracle._problem.n_g, ())
        return _grad(self._gy, (self._y,), v.detach(), keep=True)[0]


class FrozenOracle:
    """Answers about one problem, counted."""

    def __init__(self, problem):
        self._problem = problem
        self.calls = Counter()
        self.rows = Counter()

    def _count(self, kind, n, rows):
        self.calls[kind] += 1
        self.rows[kind] += rows[0].numel() if rows else n

    def at(self, x, y):
        return FrozenAt(self, x, y)

    def f(self, x, y, *rows):
        self._count("f", self._problem.n_f, rows)
        return _value(self._problem.f, x, y, *rows)

    def df(self, x, y, *rows):
        self._count("df", self._problem.n_f, rows)
        return _both(self._problem.f, x, y, *rows)

    def dg(self, x, y, *rows):
        self._count("dg", self._problem.n_g, rows)
        return _both(self._problem.g, x, y, *rows)

    def dg_x(self, x, y, *rows):
        self._count("dg_x", self._problem.n_g, rows)
        return _grad_x(self._problem.g, x, y, *rows)

    def dg_y(self, x, y, *rows):
        self._count("dg_y", self._problem.n_g, rows)
        return _grad_y(self._problem.g, x, y, *rows)

    def d2g(self, x, y, v, *rows):
        self._count("d2g", self._problem.n_g, rows)
        cross, hessian = _second(self._problem.g, x, y, v, *rows)
        assert cross is not None
        assert hessian is not None
        return cross, hessian

    def d2g_yy(self, x, y, v, *rows):
        self._count("d2g_yy", self._problem.n_g, rows)
        _, hessian = _second(self._problem.g, x, y, v, *rows, wrt="y")
        assert hessian is not None
        return hessian
