"""Judging an answer from the problem alone, outside the clock and the counts, the same way for every solver.

The problem is built once more in float64 for this, so float32 runs are judged in full precision.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.problem import Problem

LOWER_TOLERANCE = 1e-9  # of |grad_y g| at the re-solved lower level, relative to max(1, |grad_y g(x0, y0)|)
FEASIBLE = 1e-8  # violation of the upper level's constraints, up to which Phi counts as it is
SINGULAR = 1e-6  # |grad q| over 1 + |grad f|, below which BOME's measure has no direction to go by
LINEAR_TOLERANCE = 1e-8  # relative residual of the linear system behind the true hypergradient


class Judge:
    """Metrics of a point (x, y).

    phi: f(x, y*(x)) with y* re-solved. phi_gap: phi - phi_star. gap: g(x, y) - g(x, y*(x)). grad_phi: norm of the true
    hypergradient, for a closed form or a strongly convex lower level that has second derivatives. stationarity: BOME's
    measure |grad f + lambda* grad q|^2 + q. f: f(x, y). lower_residual: |grad_y g| at the re-solved lower level where
    it is solved numerically (by L-BFGS from the better of y and the last solution, then Newton steps). Then the
    problem's own. Points outside the bounds are judged at their projection.

    violation: the largest violation of the lower level's constraints at (x, y) or the upper level's at (x, y*(x)).
    Where the upper level's are violated Phi may lie below phi_star: phi_gap is then at least their violation. BOME's
    measure knows no constraints of the lower level, and is left out where there are some.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._last: Tensor | None = None  # solutions at the last look: the next ones are near
        self._last_q: Tensor | None = None
        start = derive.grad_y(problem.g, problem.x0, problem.y0)
        self._tolerance = LOWER_TOLERANCE * max(1.0, float(start.norm()))

    def __call__(self, x: Tensor, y: Tensor) -> dict[str, float]:
        p = self.problem
        x = _project(p.project_x, x.detach().to(p.x0))
        y = _project(p.project_y, y.detach().to(p.y0))
        best = p.y_star(x) if p.y_star else self._solve_lower(x, y)
        metrics = {"phi": float(derive.value(p.f, x, best))}
        if p.phi_star is not None:
            metrics["phi_gap"] = metrics["phi"] - p.phi_star
        metrics["gap"] = float(derive.value(p.g, x, y)) - float(derive.value(p.g, x, best))
        grad_phi = self._hypergradient_norm(x, best)
        if grad_phi is not None:
            metrics["grad_phi"] = grad_phi
        if p.h_g is None:
            metrics["stationarity"] = self._stationarity(x, y, best, metrics["gap"], grad_phi)
        if p.h_g is not None or p.h_f is not None:
            upper, lower = _violation(p.h_f, x, best), _violation(p.h_g, x, y)
            metrics["violation"] = max(upper, lower)
            if upper > FEASIBLE and "phi_gap" in metrics:
                metrics["phi_gap"] = max(metrics["phi_gap"], upper)
        metrics["f"] = float(derive.value(p.f, x, y))
        if p.y_star is None:
            metrics["lower_residual"] = float(derive.grad_y(p.g, x, best).norm())
        if p.metrics:
            metrics |= {name: float(value) for name, value in p.metrics(x, y).items()}
        return metrics

    def _solve_lower(self, x: Tensor, y: Tensor) -> Tensor:
        g, start = self.problem.g, y
        if "strongly_convex" in self.problem.flags and self._last is not None:  # any start leads to the one minimiser
            start = min((y, self._last), key=lambda point: float(derive.value(g, x, point)))

        def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.from_numpy(vector).to(y)
            return float(derive.value(g, x, point)), _numpy(derive.grad_y(g, x, point))

        options = {"gtol": self._tolerance / math.sqrt(y.numel()), "ftol": 0.0, "maxcor": 20, "maxiter": 2000}
        found = minimize(fun, _numpy(start), jac=True, method="L-BFGS-B", bounds=self._bounds(y), options=options)
        self._last = torch.from_numpy(found.x).to(y)
        if "strongly_convex" in self.problem.flags and self.problem.project_y is None:
            self._last = self._polish(x, self._last)
        return self._last

    def _bounds(self, y: Tensor) -> list[tuple[float, float]] | None:
        if self.problem.project_y is None:
            return None
        low, high = (self.problem.project_y(torch.full_like(y, sign * math.inf)) for sign in (-1, 1))
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def _polish(self, x: Tensor, y: Tensor) -> Tensor:
        """Newton steps: L-BFGS alone stops short of the tolerance when the last digits of g no longer change."""
        with contextlib.suppress(Unsupported):  # without second derivatives it is left at that
            for _ in range(3):
                residual = derive.grad_y(self.problem.g, x, y)
                if float(residual.norm()) <= self._tolerance:
                    break
                y = y - self._inverse_hessian(x, y, residual, 1e-4)[0]
        return y

    def _inverse_hessian(
        self, x: Tensor, y: Tensor, v: Tensor, tolerance: float, near: Tensor | None = None
    ) -> tuple[Tensor, bool]:
        """(H^-1 v, converged) by conjugate gradients with the lower Hessian at (x, y), from ``near`` or zero."""

        def product(vector: np.ndarray) -> np.ndarray:
            _, hessian = derive.second(self.problem.g, x, y, torch.from_numpy(vector).to(y), wrt="y")
            assert hessian is not None
            return _numpy(hessian)

        n = y.numel()
        operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
        guess = None if near is None else _numpy(near)
        solution, failed = cg(operator, _numpy(v), x0=guess, rtol=tolerance, atol=0.0, maxiter=5000)
        return torch.from_numpy(solution).to(y), not failed

    def _hypergradient_norm(self, x: Tensor, best: Tensor) -> float | None:
        p = self.problem
        if p.y_star is not None:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                value = p.f(leaf, p.y_star(leaf))
                if not value.requires_grad:
                    return 0.0
                return float(torch.autograd.grad(value, leaf)[0].norm())
        if "strongly_convex" not in p.flags:
            return None
        fx, fy = derive.grad(p.f, x, best)
        try:
            q, converged = self._inverse_hessian(x, best, fy, LINEAR_TOLERANCE, self._last_q)
            self._last_q = q
            if not converged:
                return None
            cross, _ = derive.second(p.g, x, best, q, wrt="x")
        except Unsupported:  # there are no second derivatives
            return None
        assert cross is not None
        return float((fx - cross).norm())

    def _stationarity(self, x: Tensor, y: Tensor, best: Tensor, gap: float, grad_phi: float | None) -> float:
        """BOME's K(x, y). At y = y*(x) grad q vanishes and lambda* is 0/0: so near it, |grad Phi|^2 + q instead."""
        p = self.problem
        fx, fy = derive.grad(p.f, x, y)
        gx, gy = derive.grad(p.g, x, y)
        grad_f = torch.cat([fx, fy])
        grad_q = torch.cat([gx - derive.grad_x(p.g, x, best), gy])
        square = float(grad_q @ grad_q)
        if math.sqrt(square) <= SINGULAR * (1 + float(grad_f.norm())):
            return math.nan if grad_phi is None else grad_phi**2 + gap
        multiplier = max(0.0, -float(grad_f @ grad_q) / square)
        return float((grad_f + multiplier * grad_q).square().sum()) + gap


def _violation(h: derive.Function | None, x: Tensor, y: Tensor) -> float:
    return 0.0 if h is None else max(0.0, float(derive.value(h, x, y).max()))


def _project(projection: object, point: Tensor) -> Tensor:
    return projection(point) if callable(projection) else point


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()
