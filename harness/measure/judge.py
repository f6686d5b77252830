"""Judging an answer from the problem alone, outside the clock and the counts, the same way for every solver.

The problem is built once more in float64 for this, so float32 runs are judged in full precision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.problem import Problem

from .feasible import infeasible, violation
from .gap import gap
from .guards import second_derivatives
from .inverse import SMALL
from .level import Level, Spent
from .lower import NEAR, NEEDS_MORE, STALLED, Found, Nearby, solve
from .plan import Plan

KEPT = "y* at the start takes more gradients than its share: the others are kept for the last look"
AT_Y_STAR = 1e-6  # |y - y*| over |y*|, below which BOME's measure has no direction to go by
LINEAR_TOLERANCE = 1e-10  # relative residual of the linear system behind the true hypergradient
DIGITS = 1e-4  # relative error up to which a figure is shown: reports have four digits
ZERO = 1e-8  # of its two terms: a hypergradient known to that is shown, however small it is
SAME = 1e-12  # relative: Phi and Phi* this close are one number
DRAWS = 3  # of the signs to which a y* at nought may be off
DIFFERENCES = 1e-8  # relative error of a product that differences of gradients give


class Judge:
    """Metrics of a point (x, y).

    phi: f(x, y*(x)) with y* re-solved. phi_gap: phi - phi_star. gap: g(x, y) - g(x, y*(x)). grad_phi: norm of the true
    hypergradient, for a closed form or a minimiser with positive curvature. stationarity: BOME's measure
    |grad f + lambda* grad q|^2 + q. f: f(x, y). Then the problem's own. Points outside the bounds are judged at their
    projection.

    Where y* has no closed form: lower_error, an upper estimate of |y - y*| at the re-solved lower level, and what it
    and the linear solve do to the figures, phi_error and grad_phi_error. A figure that may be off in the digits that
    are shown is left out, and ``unjudged`` says why.

    violation: the largest violation of the lower level's constraints at (x, y) or the upper level's at (x, y*(x)).
    Where the upper level's are violated Phi may lie below phi_star: phi_gap is then at least their violation. BOME's
    measure knows no constraints of the lower level, and is left out where there are some.

    ``slopes``: whether grad_phi, which takes two linear systems a look, is wanted where y* has no closed form.
    """

    def __init__(self, problem: Problem, plan: Plan | None = None, slopes: bool = True) -> None:
        self.problem, self.plan = problem, plan or Plan()
        self.unjudged = ""
        self._slopes = slopes
        self._seen: dict[int, dict[str, float]] = {}  # figures by step, of a stream that tells its own by them
        self._last_due, self._judged, self._asked = -1, 0, 0.0
        self._kept = (
            False  # whether what may be asked is kept for the last look, since the first did not come to an end
        )
        self._last: tuple[Tensor, ...] = ()  # the solution at the last look: the next one is near
        self._settled = False  # whether that is a minimiser
        self._last_q: Tensor | None = None
        self._nearby = Nearby()
        self._scale = 0.0  # the largest |phi| so far: beside it a phi that vanishes is known to rounding
        closed = problem.y_star is not None or bool(self.plan.without)
        self._twice = closed or second_derivatives(problem) in ("there", "not tried: memory ran out")

    def __call__(self, x: Tensor, y: Tensor, step: int = 0, last: bool = True) -> dict[str, float]:
        """The metrics at ``step``, the last look of a run or not: the plan says which of them are due."""
        p, self.unjudged = self.problem, ""
        x = _project(p.project_x, x.detach().to(p.x0))
        y = _project(p.project_y, y.detach().to(p.y0))
        metrics: dict[str, float] = {}
        if self.plan.without:
            self.unjudged = f"phi is not judged: {self.plan.without}"
        elif not last and self._kept:
            self.unjudged = KEPT
        elif self.plan.due(step, self._last_due, last):
            self._last_due = step
            metrics = self._closed(x, y) if p.y_star else self._solved(x, y)
        rows = p.stream.rows(max(step - 1, 0))[:1] if p.stream else ()  # of the step that was taken last
        metrics["f"] = float(derive.value(p.f, x, y, *rows))
        for own in (p.metrics, p.final if last else None):
            metrics |= {name: float(value) for name, value in own(x, y).items()} if own else {}
        if p.stream and p.stream.over:
            self._seen[step] = metrics
            metrics |= {name: float(value) for name, value in p.stream.over(self._seen).items()}
        return metrics

    def resume(self, step: int) -> None:
        """Go on as if Phi had last been judged at ``step``."""
        self._last_due = step

    def _closed(self, x: Tensor, y: Tensor) -> dict[str, float]:
        p = self.problem
        assert p.y_star is not None
        try:
            best = p.y_star(x).detach()
        except ArithmeticError as error:  # the lower level has no solution at this x
            self.unjudged = str(error)
            return {}
        metrics = {"phi": float(derive.value(p.f, x, best))}
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = p.f(leaf, p.y_star(leaf))
            slope = torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(x)
        metrics["gap"], metrics["grad_phi"] = gap(p.g, x, y, best), float(slope.norm())
        return self._finished(metrics, x, y, best, 0.0)

    def _solved(self, x: Tensor, y: Tensor) -> dict[str, float]:
        p = self.problem
        before = self.plan.looks if self._kept else self._judged
        level = Level(p.g, x, self._twice, self.plan.allowance(before, self._asked), p.bounds_y)
        try:
            return self._re_solved(level, x, y)
        finally:
            self._judged, self._asked = self._judged + 1, self._asked + level.asked

    def _re_solved(self, level: Level, x: Tensor, y: Tensor) -> dict[str, float]:
        p = self.problem
        start = min((y, *self._last), key=lambda point: _order(derive.value(p.g, x, point)))
        # near the last minimiser Newton's method stays in its basin
        settled = self._settled and start is not y
        found = solve(level, start, bool({"strongly_convex", "convex"} & p.flags) or settled, self._nearby.factor)
        self._settled = not found.why
        self._kept |= self.plan.sparse and not self._judged and found.why.startswith(NEEDS_MORE)
        self._last = (found.y,)
        if found.inverse is None or (found.why and found.why != STALLED):
            self.unjudged = found.why
            return {}
        fx, fy = derive.grad(p.f, x, found.y)
        phi, near = (float(derive.value(p.f, x, point)) for point in (found.y, _moved(found, level)))
        metrics = {"phi": phi, "lower_error": found.error}
        eps = torch.finfo(y.dtype).eps
        error = float(fy.norm()) * found.error + abs(near - phi) + 4 * eps * abs(phi)
        metrics["phi_error"] = error
        if valley := found.inverse.valley(fy) > SMALL * float(fy.norm()):
            self.unjudged = "g has a valley of minimisers along which f changes, and nothing says which of them is y*"
        self._scale = max(self._scale, abs(phi))
        if valley or not error <= max(DIGITS * abs(phi), SAME * self._scale):
            self.unjudged = self.unjudged or found.why or f"phi = {phi:.6g} may be off by {error:.2g}"
            return {"lower_error": found.error, "phi_error": error}
        metrics["gap"] = gap(p.g, x, y, found.y)
        metrics |= self._hypergradient(level, found, fx, fy) if self._slopes else {}
        self._nearby = self._nearby.after(level, found)
        return self._finished(metrics, x, y, found.y, error)

    def _finished(
        self, metrics: dict[str, float], x: Tensor, y: Tensor, best: Tensor, error: float
    ) -> dict[str, float]:
        """With what follows from phi, gap and grad_phi."""
        p = self.problem
        if p.phi_star is not None:
            off, scale = metrics["phi"] - p.phi_star, max(abs(metrics["phi"]), abs(p.phi_star))
            if error <= max(DIGITS * abs(off), SAME * scale):
                metrics["phi_gap"] = off
            else:
                self.unjudged = f"phi - phi* = {off:.3g} may be off by {error:.2g}"
        if p.h_g is None:
            metrics["stationarity"] = self._stationarity(x, y, best, metrics["gap"], metrics.get("grad_phi"))
        if p.h_g is not None or p.h_f is not None:
            upper, lower = violation(p.h_f, x, best), violation(p.h_g, x, y)
            metrics["violation"] = max(upper, lower)
            if "phi_gap" in metrics and infeasible(p.h_f, x, best):
                metrics["phi_gap"] = max(metrics["phi_gap"], upper)
        first = ("phi", "phi_gap", "gap", "grad_phi", "stationarity", "violation")
        return {name: metrics[name] for name in (*first, *metrics) if name in metrics}

    def _hypergradient(self, level: Level, found: Found, fx: Tensor, fy: Tensor) -> dict[str, float]:
        """grad_phi and grad_phi_error, or nothing where the linear system behind them could not be solved."""
        inverse = found.inverse
        assert inverse is not None
        try:
            q = inverse(fy, LINEAR_TOLERANCE, self._last_q)
            cross = level.cross(found.y, q.vector)
            moved = inverse(derive.grad_y(self.problem.f, level.x, _moved(found, level)), LINEAR_TOLERANCE, q.vector)
            value, size, terms = float((fx - cross).norm()), float(cross.norm()), float(cross.norm() + fx.norm())
            # the answer's own error, and what y's does to q by f_y
            relative = (q.off + float((moved.vector - q.vector).norm())) / (float(q.vector.norm()) or 1.0)
            error = size * (relative + (0 if self._twice else DIFFERENCES))
            if found.why == STALLED and found.error > NEAR * float(found.y.norm()):  # y's length says nothing here
                error += self._away(level, found, fx, q.vector, cross)
            else:  # to the cross product and to f_x, as if these went like 1 / y
                error += terms * 10 * found.error / (float(found.y.norm()) or found.error or 1.0)
        except Spent:
            self.unjudged = f"grad_phi: the {level.allowance:g} gradients of this look are spent"
            return {}
        self._last_q = q.vector
        if not q.convex or not error <= max(DIGITS * value, ZERO * terms):
            self.unjudged = f"|grad Phi| = {value:.3g} may be off by {error:.2g}"
            return {"grad_phi_error": error}
        return {"grad_phi": value, "grad_phi_error": error}

    def _away(self, level: Level, found: Found, fx: Tensor, q: Tensor, cross: Tensor) -> float:
        """What y's error does to the cross product and to f_x, ten times: each entry off by as much as all together,
        so that no direction is spared, to signs that are drawn, the worst of ``DRAWS``."""
        draw, worst = torch.Generator().manual_seed(0), 0.0
        for _ in range(DRAWS):
            signs = 2 * torch.randint(2, found.y.shape, generator=draw).to(found.y) - 1
            at = level.inside(found.y + found.error * signs)
            off = float((level.cross(at, q) - cross).norm() + (derive.grad_x(self.problem.f, level.x, at) - fx).norm())
            worst = max(worst, 10 * off) if math.isfinite(off) else math.inf
        return worst

    def _stationarity(self, x: Tensor, y: Tensor, best: Tensor, gap: float, grad_phi: float | None) -> float:
        """BOME's K(x, y). At y = y*(x) grad q vanishes and lambda* is 0/0: so near it, |grad Phi|^2 + q instead."""
        p = self.problem
        if float((y - best).norm()) <= AT_Y_STAR * float(best.norm()):
            return math.nan if grad_phi is None else grad_phi**2 + gap
        fx, fy = derive.grad(p.f, x, y)
        gx, gy = derive.grad(p.g, x, y)
        grad_f = torch.cat([fx, fy])
        grad_q = torch.cat([gx - derive.grad_x(p.g, x, best), gy])
        size = float(grad_q.norm())
        if not size:
            return math.nan if grad_phi is None else grad_phi**2 + gap
        unit = grad_q / size  # squares of tiny gradients would vanish
        along = max(0.0, -float(grad_f @ unit))
        return float((grad_f + along * unit).square().sum()) + gap


def _moved(found: Found, level: Level) -> Tensor:
    """A point as far from the one that was found as that may be from y*, in the direction of the last gradient."""
    size = float(found.slope.norm())
    return level.inside(found.y - found.error / size * found.slope) if size else found.y


def _order(value: Tensor) -> float:
    number = float(value)
    return math.inf if math.isnan(number) else number


def _project(projection: object, point: Tensor) -> Tensor:
    return projection(point) if callable(projection) else point
