"""What a problem is like: curvature of the lower level at the start and along descent, and what its derivatives cost.

Curvature is that of g(x0, .): extreme eigenvalues of its Hessian by Lanczos on Hessian products. Where there are more
variables than Lanczos steps, the largest value found is at most the largest eigenvalue and the smallest at least the
smallest; the largest is right to a digit or more after few steps, the smallest often is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.measure.memory import LiveBytes
from bilevelbench.measure.prices import bare, prices

from .problems import built, probe

LANCZOS = 60  # steps; as many variables or fewer are done exactly
LARGE = 5000  # variables, above which there are fewer of them
FEW = 15
POWER = 20  # steps of the power iteration
DESCENT = (0, 10, 100)  # steps of gradient descent on g(x0, .) after which curvature is taken
ROUNDING = 1e-7  # of the largest curvature, below which a value is no different from 0


class Curvature(NamedTuple):
    """Extreme eigenvalues of the Hessian of g(x, .) at a point, or bounds from within where not ``exact``."""

    least: float
    largest: float
    exact: bool

    def __str__(self) -> str:
        if math.isnan(self.least):
            return "not finite"
        most, least = ("", "") if self.exact else ("at most ", "at least ")
        words = f"from {most}{self.least:.3g} to {least}{self.largest:.3g}"
        if self.least > ROUNDING * self.largest:
            return f"{words}, condition {least}{self.largest / self.least:.3g}"
        return f"{words}, {'singular' if self.least >= -ROUNDING * abs(self.largest) else 'not convex there'}"


def curvature(function: derive.Function, x: Tensor, y: Tensor) -> Curvature:
    """Extreme curvatures in y of a function of (x, y), by Lanczos with full reorthogonalisation, from a fixed start."""
    n = y.numel()
    steps = min(n, LANCZOS if n <= LARGE else FEW)
    basis = [_unit(Draw(0).normal(n).to(y))]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        product = derive.second(function, x, y, basis[-1], wrt="y")[1]
        assert product is not None
        diagonal.append(float(product @ basis[-1]))
        for _ in range(2):  # twice is enough
            matrix = torch.stack(basis)
            product = product - matrix.T @ (matrix @ product)
        size = float(product.norm())
        if len(diagonal) == steps or not math.isfinite(size):
            break
        if size <= 1e-12 * (1 + max(map(abs, diagonal))):  # an invariant subspace: go on in another direction
            product, size = Draw(len(diagonal)).normal(n).to(y), 0.0
            product = product - matrix.T @ (matrix @ product)
        beside.append(size)
        basis.append(_unit(product))
    if not all(map(math.isfinite, diagonal)):
        return Curvature(math.nan, math.nan, steps == n)
    tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values = np.linalg.eigvalsh(tridiagonal)
    return Curvature(float(values[0]), float(values[-1]), steps == n)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def along_descent(problem: Problem) -> Iterator[tuple[int, Tensor, Curvature]]:
    """(steps, y, curvature there) on the way of gradient descent on g(x0, .) from y0, with steps 1/L halved at need."""
    x, y, done = problem.x0, problem.y0, 0
    inside = problem.project_y or (lambda point: point)
    size = 0.0
    for stop in DESCENT if y.numel() <= LARGE else DESCENT[:2]:
        for _ in range(stop - done):
            slope, value = derive.grad_y(problem.g, x, y), float(derive.value(problem.g, x, y))
            new = inside(y - size * slope)
            while size > 1e-12 and not float(derive.value(problem.g, x, new)) <= value:
                size /= 2
                new = inside(y - size * slope)
            y = new
        done = stop
        found = curvature(problem.g, x, y)
        size = size or 1 / max(abs(found.largest), abs(found.least), 1e-6)
        yield done, y, found


def curvature_fits_the_flags(target: str) -> str:
    """Nothing below 0 is found where g(x, .) is said to be convex, nothing as low as 0 where strongly convex."""
    problem = built(target)
    if not {"strongly_convex", "convex"} & problem.flags:
        return "it claims no convexity"
    found = {"at the start": curvature(problem.g, problem.x0, problem.y0)}
    if problem.y0.numel() <= LARGE:
        found["near it"] = curvature(problem.g, *probe(problem))
    for place, one in found.items():
        if math.isnan(one.least):
            assert "nonsmooth" in problem.flags, (
                f"second derivatives of g in y are not finite {place}; flag it nonsmooth"
            )
            continue
        rounding = ROUNDING * max(abs(one.largest), 1e-300)
        assert one.least >= -rounding, (
            f"g(x, .) is flagged convex, but has the curvature {one.least:.3g} {place}; take the flag away"
        )
        if "strongly_convex" in problem.flags and one.exact:
            assert one.least > 1e-14 * one.largest, (
                f"g(x, .) is flagged strongly_convex, but has the curvature {one.least:.3g} {place}; flag it convex"
            )
    return ""


def portrait(target: str) -> list[str]:
    """Lines on what a problem has: variables and rows, notes, curvature, a lower step that is safe, costs."""
    problem = built(target)
    x, y = problem.x0, problem.y0
    lines = [f"variables: {x.numel()} upper, {y.numel()} lower; rows of data: {problem.n_f} of f, {problem.n_g} of g"]
    try:
        curved = list(_curved(problem))
    except Unsupported as reason:
        curved = [f"for methods of order 1 only: {reason}"]
    return [*lines, *problem.notes, *curved, *_costs(problem)]


def _curved(problem: Problem) -> Iterator[str]:
    """What second derivatives tell."""
    x, y = problem.x0, problem.y0
    found = list(along_descent(problem))
    first = derive.grad_y(problem.g, x, y).norm()
    for steps, point, one in found:
        left = float(derive.grad_y(problem.g, x, point).norm() / first) if first else 0.0
        place = "at the start" if not steps else f"after {steps} steps of descent (|grad| {left:.1g} of the start's)"
        yield f"curvature of g in y {place}: {one}"
    largest = max((one.largest for *_, one in found if not math.isnan(one.largest)), default=0.0)
    if largest > 0:
        yield f"so descent on g takes steps below 2/L = {2 / largest:.3g}; L = {largest:.3g} is its smoothness"
    if not {"strongly_convex", "convex", "nonconvex", "pl"} & problem.flags:
        positive = all(one.least > ROUNDING * one.largest for *_, one in found)
        yield "no flag says whether g(x, .) is convex" + (": `strongly_convex` if it is so for every x" * positive)
    yield f"coupling |d2g/dxdy| after descent: {coupling(problem, x, found[-1][1]):.3g}"
    yield f"curvature of f in y at the start: {curvature(problem.f, x, y)}"


def _costs(problem: Problem) -> Iterator[str]:
    """What first and second derivatives cost."""
    cost = prices(problem)
    for name, kind in (
        ("a gradient of f", "df"),
        ("a gradient of g", "dg"),
        ("both second-order products of g", "d2g"),
    ):
        if kind in cost:
            call, row = cost[kind]
            rows = {"f": problem.n_f, "g": problem.n_g}[kind[-1]]
            yield f"{name}: {1e3 * (call + row * rows):.3g} ms of CPU, {peak_bytes(problem, kind):,} bytes at its peak"


def coupling(problem: Problem, x: Tensor, y: Tensor) -> float:
    """The largest singular value of d2g/dxdy, from below, by power iteration."""
    v, size = _unit(Draw(0).normal(y.numel()).to(y)), 0.0
    for _ in range(POWER):
        u = derive.second(problem.g, x, y, v, wrt="x")[0]
        assert u is not None
        size = float(u.norm())
        back = derive.cross_transposed(problem.g, x, y, u)
        if not float(back.norm()):
            break
        v = _unit(back)
    return size


def peak_bytes(problem: Problem, kind: str) -> int:
    """The most bytes that live at once while one answer of this kind is made, beyond the problem's own data."""
    v = torch.ones_like(problem.y0)
    with LiveBytes() as live:
        bare(problem)[kind](problem.x0, problem.y0, *([v] if kind.startswith("d2") else []))
    return live.peak
