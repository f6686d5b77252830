"""Lower levels that are linear or convex quadratic programs in y for each x, however x enters."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench.core.errors import RequestError

from .level import FEASIBLE, Answer, Function, Level
from .program import Array, Program, solve

FLAT = 1e-10  # of the largest: an eigenvalue of the Hessian that counts as 0
SAME = 1e-7  # of the size of its terms: what f or g may differ by from its model of second order
DIRECTIONS = 8  # in which corners of a set of solutions are looked for, besides the axes


def program(level: Level, x: Tensor) -> Answer:
    """The solution at x, the optimistic one of several: a second program, f over the set of solutions.

    Raises RequestError where g(x, .) is not a convex quadratic or a constraint not affine in y, NoAnswer where there is
    no solution. Where f(x, .) is no convex quadratic either, the second one is solved from the corners of the set that
    lie farthest along the axes and along 8 more directions, and so it is optimistic as far as those lead.
    """
    H, c = second_order(level.g, x, level, "g")
    A, b = affine(level, x)
    y, z = solve(Program(H, c, A, b))
    unique = bool(len(y) == 0 or np.linalg.eigvalsh(H)[0] > FLAT * max(1.0, np.abs(H).max()))
    if not unique:
        y = _optimistic(level, x, Program(H, c, A, b), y, z)
    slack, scale = b - A @ y, 1 + np.abs(b)
    active = torch.from_numpy(slack <= FEASIBLE * scale)
    return Answer(torch.from_numpy(y), torch.from_numpy(z), active, unique)


def second_order(function: Function, x: Tensor, level: Level, name: str) -> tuple[Array, Array]:
    """H and c of function(x, y) = y'Hy/2 + c'y + const. RequestError where it is not that, or not convex."""
    origin = torch.zeros_like(level.low)
    H = _hessian(function, x, origin)
    c = _slope(function, x, origin)
    for away in _probes(len(origin)):
        model, real = H @ away.numpy() + c, _slope(function, x, away)
        if np.abs(model - real).max() > SAME * (1 + np.abs(real).max()):
            raise RequestError(f"{name}(x, .) is no quadratic in y, so it is not one that a quadratic program solves")
    least = float(np.linalg.eigvalsh(H)[0])
    if least < -FLAT * max(1.0, np.abs(H).max()):
        raise RequestError(f"{name}(x, .) is not convex: the least eigenvalue of its Hessian in y is {least:.3g}")
    return H, c


def affine(level: Level, x: Tensor) -> tuple[Array, Array]:
    """A and b of the rows A y <= b. RequestError where a row is not affine in y."""
    origin = torch.zeros_like(level.low)
    values = level.rows(x, origin).detach()
    if not values.numel():
        return np.zeros((0, len(origin))), np.zeros(0)
    A = torch.autograd.functional.jacobian(lambda y: level.rows(x, y), origin, vectorize=True)
    for away in _probes(len(origin)):
        off = (values + A @ away - level.rows(x, away).detach()).abs()
        if bool((off > SAME * (1 + values.abs())).any()):
            raise RequestError(f"row {int(off.argmax())} of h_g(x, .) is not affine in y, as a linear program needs")
    return A.numpy(), -values.numpy()


def _probes(n: int) -> tuple[Tensor, Tensor]:
    steps = torch.arange(n, dtype=torch.float64)
    return 0.5 + 0.1 * steps.cos(), -0.7 + 0.2 * steps.sin()


def _slope(function: Function, x: Tensor, y: Tensor) -> Array:
    leaf = y.clone().requires_grad_()
    with torch.enable_grad():
        value = function(x, leaf)
        if not value.requires_grad:
            return np.zeros(len(y))
        (slope,) = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)
    return slope.numpy()


def _hessian(function: Function, x: Tensor, y: Tensor) -> Array:
    found: Array = torch.autograd.functional.hessian(lambda point: function(x, point) + 0 * point.sum(), y).numpy()
    return (found + found.T) / 2


def _optimistic(level: Level, x: Tensor, first: Program, y: Array, z: Array) -> Array:
    """Of the set of solutions {A y <= b, A_i y = b_i where z_i > 0, H y the same}, a point with the least f(x, .)."""
    held = z > FEASIBLE * (1 + z.max(initial=0.0))
    same = np.vstack([first.A[held], first.H])
    goal = np.r_[first.b[held], first.H @ y]
    rank = np.linalg.matrix_rank(same, tol=1e-9) if same.size else 0
    if rank == len(y):
        return y
    A, b = np.vstack([first.A, same, -same]), np.r_[first.b, goal, -goal]
    room = np.r_[first.b * 0, np.full(2 * len(goal), FEASIBLE)]  # rounding must not make the set empty
    face = Program(0 * first.H, 0 * first.c, A, b + room)
    try:
        H, c = second_order(level.f, x, level, "f")
    except RequestError:
        return _from_corners(level, x, face)
    return solve(face._replace(H=H, c=c))[0]


def _from_corners(level: Level, x: Tensor, face: Program) -> Array:
    n = len(face.c)
    rng = np.random.default_rng(0)
    towards = np.vstack([np.eye(n), -np.eye(n), rng.standard_normal((DIRECTIONS, n))])
    box = (
        np.vstack([face.A, np.eye(n), -np.eye(n)]),
        np.r_[face.b, np.full(2 * n, 1e6)],
    )  # it may be unbounded
    corners = [solve(face._replace(c=c, A=box[0], b=box[1]))[0] for c in towards]

    def f(y: Array) -> float:
        return float(level.f(x, torch.from_numpy(np.array(y))))

    ends = list(corners)
    for start in corners:
        rows = [{"type": "ineq", "fun": lambda y: face.b - face.A @ y, "jac": lambda y: -face.A}]
        found = minimize(
            f, start, jac=lambda y: _slope(level.f, x, torch.from_numpy(np.array(y))), method="SLSQP",
            constraints=rows, options={"ftol": 1e-14, "maxiter": 200},
        )  # fmt: skip
        if (face.A @ found.x - face.b <= FEASIBLE * face.scale).all():
            ends.append(found.x)
    return min(ends, key=f)
