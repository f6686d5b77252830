"""What every problem keeps: finite numbers, right gradients, an optimum that is one, seeds that mean something."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bilevelbench.core.draw import Draw
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import build_problem


def _build(target: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Problem:
    return build_problem(target, Draw(seed, dtype=dtype))


def _probe(problem: Problem, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A point near the start, inside the bounds: at the start itself derivatives may vanish by symmetry."""
    rng = Draw(seed)
    x = problem.x0 + 0.1 * rng.normal(problem.x0.numel()).to(problem.x0)
    y = problem.y0 + 0.1 * rng.normal(problem.y0.numel()).to(problem.y0)
    return (problem.project_x or _same)(x), (problem.project_y or _same)(y)


def _same(point: Tensor) -> Tensor:
    return point


def finite_at_the_start(target: str) -> None:
    """Values and gradients at (x0, y0) are finite, and the start lies within the bounds."""
    problem = _build(target)
    oracle = Oracle(problem)
    x, y = problem.x0, problem.y0
    for name, answer in (
        ("f", (oracle.f(x, y),)), ("g", (oracle.g(x, y),)), ("df", oracle.df(x, y)), ("dg", oracle.dg(x, y)),
    ):  # fmt: skip
        assert all(bool(torch.isfinite(part).all()) for part in answer), f"{name} is not finite at the start"
    assert torch.equal((problem.project_x or _same)(x), x), "x0 lies outside the bounds of x"
    assert torch.equal((problem.project_y or _same)(y), y), "y0 lies outside the bounds of y"


def gradients_are_right(target: str) -> None:
    """Gradients agree with central differences along random directions."""
    problem = _build(target)
    x, y = _probe(problem)
    rng = Draw(1)
    for name, function in (("f", problem.f), ("g", problem.g)):
        oracle = Oracle(problem)
        dx, dy = oracle.df(x, y) if name == "f" else oracle.dg(x, y)
        for _ in range(3):
            u, v = rng.normal(x.numel()), rng.normal(y.numel())
            u, v = u / u.norm(), v / v.norm()
            h = 1e-5
            difference = float(function(x + h * u, y + h * v) - function(x - h * u, y - h * v)) / (2 * h)
            exact = float(dx @ u + dy @ v)
            scale = float(dx.norm() + dy.norm()) + 1
            assert abs(difference - exact) <= 1e-5 * scale, (
                f"the gradient of {name} is {exact:g}, it should be {difference:g}"
            )


def second_order_products_are_right(target: str) -> None:
    """Products with second derivatives of g agree with central differences of its gradient."""
    problem = _build(target)
    x, y = _probe(problem)
    oracle, v = Oracle(problem), Draw(2).normal(y.numel())
    v, h = v / v.norm(), 1e-5
    exact = oracle.d2g(x, y, v)
    ahead, behind = oracle.dg(x, y + h * v), oracle.dg(x, y - h * v)
    for name, product, a, b in zip(("d2g/dxdy v", "d2g/dydy v"), exact, ahead, behind, strict=True):
        difference = (a - b) / (2 * h)
        error, scale = float((product - difference).norm()), float(difference.norm()) + 1
        assert error <= 1e-4 * scale, f"{name} is off by {error:g} from central differences"


def y_star_is_optimal(target: str) -> None:
    """g(x, y*(x)) is not undercut near y*(x), and its projected gradient vanishes."""
    problem = _build(target)
    if problem.y_star is None:
        return
    rng, project = Draw(3), problem.project_y or _same
    x, _ = _probe(problem)
    best = problem.y_star(x)
    g, step = problem.g, Oracle(problem).dg_y(x, best)
    scale = 1 + float(Oracle(problem).dg_y(x, problem.y0).norm())
    moved = float((project(best - step) - best).norm())
    assert moved <= 1e-8 * scale, f"|grad_y g| at y*(x) is {moved:g}"
    for _ in range(20):
        other = project(best + 0.1 * rng.normal(best.numel()))
        assert float(g(x, other) - g(x, best)) >= -1e-10 * scale, "a point near y*(x) has a smaller g"


def phi_star_is_not_beaten(target: str) -> None:
    """No sampled x has Phi(x) below phi_star."""
    problem = _build(target)
    if problem.phi_star is None or problem.y_star is None:
        return
    rng, project = Draw(4), problem.project_x or _same
    for scale in (0.01, 0.1, 1.0, 3.0, 10.0):
        for _ in range(20):
            x = project(problem.x0 + scale * rng.normal(problem.x0.numel()))
            value = float(problem.f(x, problem.y_star(x)))
            assert value >= problem.phi_star - 1e-9 * (1 + abs(problem.phi_star)), f"Phi = {value:.12g} beats phi_star"


def seeds_mean_something(target: str) -> None:
    """A seed gives the same numbers twice; another seed gives others, exactly where the problem says so."""
    one, again, other = _build(target, 0), _build(target, 0), _build(target, 1)
    values = [_numbers(problem) for problem in (one, again, other)]
    assert torch.equal(values[0], values[1]), "the same seed gives other numbers the second time"
    differs = not torch.equal(values[0], values[2])
    assert differs == one.seeded, (
        f"seeded={one.seeded}, but another seed gives {'other' if differs else 'the same'} numbers"
    )


def _numbers(problem: Problem) -> Tensor:
    x, y = _probe(problem)
    oracle = Oracle(problem)
    return torch.cat([problem.x0, problem.y0, *oracle.df(x, y), *oracle.dg(x, y)])


def float32_agrees(target: str) -> None:
    """The problem in float32 has the numbers of float64, rounded."""
    exact, rough = (_build(target, dtype=dtype) for dtype in (torch.float64, torch.float32))
    for name in ("f", "g"):
        x, y = _probe(exact)
        one = float(getattr(exact, name)(x, y))
        other = getattr(rough, name)(x.float(), y.float())
        assert other.dtype == torch.float32, f"{name} answers {other.dtype} in a float32 run; put all its data"
        assert abs(one - float(other)) <= 1e-4 * (1 + abs(one)), (
            f"{name} is {float(other):g} in float32, {one:g} in float64"
        )


def minibatches_average_to_the_whole(target: str) -> None:
    """The mean of the gradients of disjoint minibatches of one size is the full gradient."""
    problem = _build(target)
    x, y = _probe(problem)
    for name, n, function in (("f", problem.n_f, problem.f), ("g", problem.n_g, problem.g)):
        if n < 2:
            continue
        size = max(k for k in (1, 2, 3, 4, 5, 10, 20, 25, 50, 100) if n % k == 0)
        parts = torch.arange(n).reshape(n // size, size)[:, :]
        mean = sum(float(function(x, y, rows)) for rows in parts) / len(parts)
        whole = float(function(x, y))
        assert abs(mean - whole) <= 1e-9 * (1 + abs(whole)), (
            f"minibatches of {name} average to {mean:g}, the whole is {whole:g}"
        )


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        finite_at_the_start, gradients_are_right, second_order_products_are_right, y_star_is_optimal,
        phi_star_is_not_beaten, seeds_mean_something, float32_agrees, minibatches_average_to_the_whole,
    )
}  # fmt: skip
