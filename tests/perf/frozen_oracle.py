"""A frozen copy of the eager engine and the counting oracle, to be measured against. Not to be improved.

The step over floor cannot see a slower derivative: both sides slow down. This copy does not. Replace it, in a commit of
its own that says why, when the oracle is to take longer than it did.
"""

from collections import Counter

import torch


def _grad(value, points, along=None, create_graph=False):
    if not value.requires_grad:
        return tuple(torch.zeros_like(p) for p in points)
    return torch.autograd.grad(value, points, along, create_graph=create_graph, materialize_grads=True)


def _value(fn, x, y, *rows):
    with torch.no_grad():
        return fn(x, y, *rows)


def _both(fn, x, y, *rows):
    with torch.enable_grad():
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        gx, gy = _grad(fn(x, y, *rows), (x, y))
    return gx, gy


def _grad_x(fn, x, y, *rows):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return _grad(fn(x, y.detach(), *rows), (x,))[0]


def _grad_y(fn, x, y, *rows):
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        return _grad(fn(x.detach(), y, *rows), (y,))[0]


def _second(fn, x, y, v, *rows, wrt="xy"):
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        x = x.detach().requires_grad_() if "x" in wrt else x.detach()
        (gy,) = _grad(fn(x, y, *rows), (y,), create_graph=True)
        wanted = tuple(p for p, name in ((x, "x"), (y, "y")) if name in wrt)
        products = iter(_grad(gy, wanted, v.detach()))
    return next(products) if "x" in wrt else None, next(products) if "y" in wrt else None


class FrozenOracle:
    """Answers about one problem, counted."""

    def __init__(self, problem):
        self._problem = problem
        self.calls = Counter()
        self.rows = Counter()

    def _count(self, kind, n, rows):
        self.calls[kind] += 1
        self.rows[kind] += rows[0].numel() if rows else n

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
