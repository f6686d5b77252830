"""What a problem says of its answers: y* feasible and optimal, the optimistic one of several; phi* not beaten."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.problem import Problem

from .problems import built, probe

FEASIBLE = 1e-8  # largest violation of a constraint at a point that counts as feasible
NEAR = (1e-3, 0.1, 1.0)  # how far perturbations of y* go
STARTS = 10  # of a local solver of the lower level, where it has, or may have, several minimisers
LARGE = 5000  # variables, above which perturbations are fewer and no starts are tried


def y_star_is_optimal(target: str) -> str:
    """y*(x) is feasible, satisfies the optimality conditions, and no feasible point near it has a smaller g."""
    problem = built(target)
    if problem.y_star is None:
        return "y* has no closed form; the judge solves the lower level"
    rng = Draw(3)
    x, _ = probe(problem)
    best = problem.y_star(x).detach()
    kept = _inside(problem, best)
    assert float((kept - best).abs().max()) <= FEASIBLE, "y*(x) lies outside the bounds of y"
    assert (worst := violation(problem, x, best)) <= FEASIBLE, f"y*(x) violates h_g by {worst:g}"
    slope = derive.grad_y(problem.g, x, best)
    scale = 1 + float(derive.grad_y(problem.g, x, problem.y0).norm())
    moved = 0.0 if "nonsmooth" in problem.flags else float(_stationarity(problem, x, best, slope).norm())
    assert moved <= 1e-8 * scale, f"|grad_y g| at y*(x) is {moved:g}, less what bounds and constraints hold back"
    least = float(problem.g(x, best))
    if "nonsmooth" in problem.flags:  # the gradient may miss a kink: slopes along the axes, to both sides
        for step in 1e-6 * torch.cat([torch.eye(len(best)), -torch.eye(len(best))]).to(best):
            other = _inside(problem, best + step)
            rise = float(problem.g(x, other)) - least if violation(problem, x, other) <= FEASIBLE else 0.0
            assert rise >= -1e-11 * scale, f"g falls by {-rise:g} within 1e-6 of y*(x) along an axis"
    for k in range(20 if len(best) <= LARGE else 3):
        other = _restore(problem, x, best + NEAR[k % len(NEAR)] * rng.normal(best.numel()).to(best))
        if violation(problem, x, other) <= FEASIBLE:
            assert float(problem.g(x, other)) - least >= -1e-9 * scale, "a point near y*(x) has a smaller g"
    return ""


def selection_is_the_optimistic_one(target: str) -> str:
    """The problem says which of several minimisers it means; descent from elsewhere ends at no smaller g, nor at as
    small a g with a smaller f."""
    problem = built(target)
    several = "multi_valued" in problem.flags
    assert problem.selection or not several, (
        "argmin g(x, .) is flagged multi_valued, but `selection` does not say which minimiser is meant"
    )
    if problem.y_star is None or problem.h_g is not None or not ({"multi_valued", "nonconvex"} & problem.flags):
        return problem.selection
    if problem.y0.numel() > LARGE:
        return problem.selection
    rng = Draw(5)
    x, _ = probe(problem)
    best = problem.y_star(x).detach()
    least, value = float(problem.g(x, best)), float(problem.f(x, best))
    scale = 1 + abs(least) + float(derive.grad_y(problem.g, x, problem.y0).norm())
    for _ in range(STARTS):
        other = _descend(problem, x, _inside(problem, best + 2.0 * rng.normal(best.numel()).to(best)))
        rise = float(problem.g(x, other)) - least
        assert rise >= -1e-8 * scale, f"descent of g finds a value {-rise:g} below g(x, y*(x))"
        if rise <= 1e-11 * scale:
            lower = value - float(problem.f(x, other))
            assert lower <= 1e-4 * (1 + abs(value)), f"a minimiser of g has an f that is {lower:g} less than at y*(x)"
    return problem.selection


def phi_star_is_not_beaten(target: str) -> str:
    """No sampled x, feasible at y*(x), has Phi(x) below phi_star."""
    problem = built(target)
    if problem.phi_star is None:
        return "phi* is unknown"
    if problem.y_star is None:
        return "y* has no closed form: Phi cannot be sampled cheaply"
    rng, inside = Draw(4), problem.project_x or (lambda point: point)
    least = math.inf
    for scale in (0.0, 0.01, 0.1, 1.0, 3.0, 10.0):
        for _ in range(20 if scale else 1):
            x = inside(problem.x0 + scale * rng.normal(problem.x0.numel()))
            best = problem.y_star(x).detach()
            if problem.h_f is not None and float(problem.h_f(x, best).max()) > FEASIBLE:
                continue
            value = float(problem.f(x, best))
            least = min(least, value)
            assert value >= problem.phi_star - 1e-9 * (1 + abs(problem.phi_star)), f"Phi = {value:.12g} beats phi_star"
    return f"phi* = {problem.phi_star:.6g}, the least of the samples is {least:.6g}"


def projection_in_x_and_y_is_nearest(target: str) -> str:
    """``project_xy`` ends at a feasible point, stays there, and no feasible point found otherwise is nearer."""
    problem = built(target)
    if problem.project_xy is None:
        return "it offers no project_xy"
    rng = Draw(6)
    x, y = probe(problem)
    near = problem.project_xy(x, y)
    assert violation(problem, *near) <= FEASIBLE, "project_xy ends at a point that violates h_g"
    for once, twice in zip(near, problem.project_xy(*near), strict=True):
        assert torch.allclose(once, twice, rtol=0, atol=1e-8), "projecting twice moves the point twice"
    distance = math.hypot(float((near[0] - x).norm()), float((near[1] - y).norm()))
    for _ in range(20):
        other = (problem.project_x or _same)(near[0] + 0.1 * rng.normal(x.numel()).to(x))
        beside = _restore(problem, other, near[1] + 0.1 * rng.normal(y.numel()).to(y))
        if violation(problem, other, beside) <= FEASIBLE:
            away = math.hypot(float((other - x).norm()), float((beside - y).norm()))
            assert away >= distance - 1e-7 * (1 + distance), "a feasible point is nearer than project_xy's"
    return ""


def violation(problem: Problem, x: Tensor, y: Tensor) -> float:
    """The largest violation of h_g(x, y) <= 0; 0 where there are no constraints."""
    return 0.0 if problem.h_g is None else max(0.0, float(problem.h_g(x, y).detach().max()))


def _same(point: Tensor) -> Tensor:
    return point


def _inside(problem: Problem, y: Tensor) -> Tensor:
    return (problem.project_y or _same)(y)


def _stationarity(problem: Problem, x: Tensor, best: Tensor, slope: Tensor) -> Tensor:
    """What is left of the gradient of g once multipliers of the active constraints have taken their share."""
    if problem.h_g is None:
        return _inside(problem, best - slope) - best
    columns = [-_jacobian(problem, x, best)[problem.h_g(x, best).detach().abs() <= FEASIBLE].T]
    for sign in (-1.0, 1.0):  # a coordinate at a bound: its multiplier pushes inwards
        held = _inside(problem, best + sign) == best
        columns.append(-sign * torch.eye(len(best)).to(best)[:, held])
    matrix = torch.cat(columns, 1).numpy()
    if not matrix.size:
        return slope
    return slope - torch.from_numpy(matrix @ nnls(matrix, slope.numpy(), maxiter=100 * len(best))[0])


def _jacobian(problem: Problem, x: Tensor, y: Tensor) -> Tensor:
    assert problem.h_g is not None
    h: Callable[[Tensor, Tensor], Tensor] = problem.h_g
    with torch.enable_grad():
        return torch.autograd.functional.jacobian(lambda point: h(x, point), y.detach(), vectorize=True)


def _restore(problem: Problem, x: Tensor, y: Tensor) -> Tensor:
    """A point near y that is feasible, by Newton steps on the constraints that are violated."""
    y = _inside(problem, y)
    for _ in range(30):
        if violation(problem, x, y) <= FEASIBLE / 10:
            break
        assert problem.h_g is not None
        values = problem.h_g(x, y).detach()
        bad = values > 0
        step = torch.linalg.lstsq(_jacobian(problem, x, y)[bad], values[bad][:, None], driver="gelsy").solution
        y = _inside(problem, y - step[:, 0])
    return y


def _descend(problem: Problem, x: Tensor, start: Tensor) -> Tensor:
    """A minimiser of g(x, .) within its bounds by L-BFGS-B."""

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(vector.copy()).to(start)
        return float(derive.value(problem.g, x, point)), derive.grad_y(problem.g, x, point).numpy()

    low, high = (_inside(problem, torch.full_like(start, sign * math.inf)) for sign in (-1, 1))
    options = {"gtol": 1e-10, "ftol": 0.0, "maxiter": 300}
    bounds = list(zip(low.tolist(), high.tolist(), strict=True))
    return torch.from_numpy(minimize(fun, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)


CHECKS: dict[str, Callable[[str], str | None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        y_star_is_optimal, selection_is_the_optimistic_one, phi_star_is_not_beaten, projection_in_x_and_y_is_nearest,
    )
}  # fmt: skip
