"""What every problem keeps: finite numbers, right derivatives, seeds that mean something, one set of numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bilevelbench.core.draw import Draw
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import PROBLEMS
from bilevelbench.core.resolve import build_problem, resolve

from .left_out import left_out
from .rounding import same

ROUNDING = 1e-12  # of what is subtracted: what a difference of two values may be off by


def built(target: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Problem:
    """The problem that a text names, on the CPU."""
    return build_problem(target, Draw(seed, dtype=dtype))


def probe(problem: Problem, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A point near the start, inside the bounds: at the start itself derivatives may vanish by symmetry."""
    rng = Draw(seed)
    x, y = (start + 0.1 * unit(start) * rng.normal(start.numel()).to(start) for start in (problem.x0, problem.y0))
    return (problem.project_x or _same)(x), (problem.project_y or _same)(y)


def unit(point: Tensor) -> float:
    """The unit of a point: the root mean square of its numbers, 1 where all are 0."""
    return float(point.norm()) / point.numel() ** 0.5 or 1.0


def _direction(rng: Draw, point: Tensor) -> Tensor:
    """A random direction, as long as the point's unit."""
    drawn = rng.normal(point.numel())
    return unit(point) / drawn.norm() * drawn


def _same(point: Tensor) -> Tensor:
    return point


def finite_at_the_start(target: str) -> None:
    """Values and gradients at (x0, y0) are finite, and the start lies within the bounds."""
    problem = built(target)
    oracle = Oracle(problem)
    x, y = problem.x0, problem.y0
    for name, answer in (
        ("f", (oracle.f(x, y),)), ("g", (oracle.g(x, y),)), ("df", oracle.df(x, y)), ("dg", oracle.dg(x, y)),
    ):  # fmt: skip
        assert all(bool(torch.isfinite(part).all()) for part in answer), f"{name} is not finite at the start"
    for name, given in (("h_f", problem.h_f), ("h_g", problem.h_g)):
        values = torch.zeros(0) if given is None else given(x, y)
        assert values.ndim == 1, f"{name} answers the shape {tuple(values.shape)}; it takes one axis, (m,)"
        assert bool(torch.isfinite(values).all()), f"{name} is not finite at the start"
    assert torch.equal((problem.project_x or _same)(x), x), "x0 lies outside the bounds of x"
    assert torch.equal((problem.project_y or _same)(y), y), "y0 lies outside the bounds of y"


def gradients_are_right(target: str) -> None:
    """Gradients agree with central differences along random directions."""
    problem = built(target)
    x, y = probe(problem)
    rng = Draw(1)
    for name, function in (("f", problem.f), ("g", problem.g)):
        oracle = Oracle(problem)
        dx, dy = oracle.df(x, y) if name == "f" else oracle.dg(x, y)
        for _ in range(3):
            u, v = 1e-5 * _direction(rng, x), 1e-5 * _direction(rng, y)
            ahead, behind = float(function(x + u, y + v)), float(function(x - u, y - v))
            difference, exact = (ahead - behind) / 2, float(dx @ u + dy @ v)
            allowed = 1e-5 * float(dx.norm() * u.norm() + dy.norm() * v.norm())
            assert abs(difference - exact) <= allowed + ROUNDING * (abs(ahead) + abs(behind)), (
                f"the gradient of {name} along a step is {exact:g}, it should be {difference:g}"
                + "".join(f"; {line}" for line in [left_out(function, x, y)] if line)
            )


def second_order_products_are_right(target: str) -> None:
    """Every product with second derivatives that the oracle offers agrees with central differences of gradients."""
    problem = built(target)
    x, y = probe(problem)
    # Across a kink no difference is near a derivative: a short one seldom meets any of the many kinks of a network.
    oracle, rng, h = Oracle(problem), Draw(2), 1e-8 if "nonsmooth" in problem.flags else 1e-5
    u, v = _direction(rng, x), _direction(rng, y)
    along_y = {}
    for name, gradient in (("f", oracle.df), ("g", oracle.dg)):
        ahead, behind = gradient(x, y + h * v), gradient(x, y - h * v)
        along_y[name] = [_halved(a, b, h) for a, b in zip(ahead, behind, strict=True)]
    along_x = _halved(oracle.dg_y(x + h * u, y), oracle.dg_y(x - h * u, y), h)
    for name, product, (difference, rounding) in (
        *zip(("d2f/dxdy v", "d2f/dydy v"), oracle.d2f(x, y, v), along_y["f"], strict=True),
        *zip(("d2g/dxdy v", "d2g/dydy v"), oracle.d2g(x, y, v), along_y["g"], strict=True),
        ("d2g_xy", oracle.d2g_xy(x, y, v), along_y["g"][0]),
        ("d2g_yy", oracle.d2g_yy(x, y, v), along_y["g"][1]),
        ("d2g_yx", oracle.d2g_yx(x, y, u), along_x),
    ):
        error = float((product - difference).norm())
        assert error <= 1e-4 * float(difference.norm()) + rounding, (
            f"{name} is off by {error:g} from central differences"
        )


def _halved(ahead: Tensor, behind: Tensor, h: float) -> tuple[Tensor, float]:
    """A central difference, and what rounding may do to it."""
    return (ahead - behind) / (2 * h), ROUNDING * float(ahead.norm() + behind.norm()) / (2 * h)


def constraints_are_differentiable(target: str) -> str:
    """Products with the Jacobians of h_f and h_g agree with central differences."""
    problem = built(target)
    if problem.h_f is None and problem.h_g is None:
        return "it has no constraints between x and y"
    x, y = probe(problem)
    oracle, rng, h = Oracle(problem), Draw(7), 1e-5
    u, v = _direction(rng, x), _direction(rng, y)
    for values, pull in ((oracle.h_f, oracle.dh_f), (oracle.h_g, oracle.dh_g)):
        w = rng.normal(values(x, y).numel())
        along, rounding = _halved(values(x + h * u, y + h * v), values(x - h * u, y - h * v), h)
        in_x, in_y = pull(x, y, w)
        difference, exact = float(w @ along), float(in_x @ u + in_y @ v)
        allowed = 1e-5 * float(in_x.norm() * u.norm() + in_y.norm() * v.norm()) + rounding * float(w.norm())
        assert abs(exact - difference) <= allowed, f"{pull.__name__} gives {exact:g}, it should be {difference:g}"
    return ""


def says_what_it_shows(target: str) -> str:
    """The failure of solvers that it exposes is in one short clause, and it names its family; required of the problems
    that come with us."""
    entry, _ = resolve(PROBLEMS, target)
    ours = entry.make.__module__.startswith("bilevelbench.")
    assert entry.shows or not ours, "nothing says what failure it shows: @problem(name, shows='...')"
    assert entry.family or not ours, "nothing says which kind of problem it is one of: @problem(name, family='...')"
    assert len(entry.shows) <= 110, f"`shows` is one short clause, not {len(entry.shows)} characters"
    return entry.shows


def lines_to_beat_are_there(target: str) -> str:
    """What ``better`` names is among the problem's figures, what ``bar`` names among its reference lines."""
    problem = built(target)
    figures = _figures(problem)
    missing = sorted(set(problem.better) - figures)
    assert not missing, f"`better` names {missing}, which `metrics` does not answer"
    lines = problem.references() if problem.references else {}
    if not lines:
        return "it has no reference lines"
    assert problem.bar, "it has reference lines and no `bar`: say which of them a solver must beat, and in which figure"
    figure, needed = problem.bar
    missing = sorted(line for line in needed if figure not in lines.get(line, {}))
    assert not missing, f"`bar` needs {figure!r} of the reference lines {missing}, which are not there"
    return f"to be beaten in {figure}: {', '.join(needed)}"


def _figures(problem: Problem) -> set[str]:
    """The names of all figures of a whole run: those of every look, of the last one, and of a stream."""
    made = dict(problem.metrics(problem.x0, problem.y0)) if problem.metrics else {}
    more = dict(problem.final(problem.x0, problem.y0)) if problem.final else {}
    if problem.stream and problem.stream.over:
        more |= problem.stream.over(dict.fromkeys((0, *problem.stream.looks), made))
    return {*made, *more}


def seeds_mean_something(target: str) -> str:
    """A seed gives the same numbers twice but for rounding; another seed gives others, where the problem says so."""
    one, again, other = built(target, 0), built(target, 0), built(target, 1)
    values = [_numbers(problem) for problem in (one, again, other)]
    assert same(values[0], values[1]), "the same seed gives other numbers the second time"
    differs = not same(values[0], values[2])
    assert differs == one.seeded, (
        f"seeded={one.seeded}, but another seed gives {'other' if differs else 'the same'} numbers"
    )
    start = not same((one.x0, one.y0), (other.x0, other.y0))
    x, y = probe(one)
    data = [(o.df(x, y), o.dg(x, y)) for o in (Oracle(one), Oracle(other))]
    varies = [word for word, holds in (("start", start), ("data", not same(*data))) if holds]
    return f"another seed gives another {' and other '.join(varies)}" if varies else "nothing is drawn"


def _numbers(problem: Problem) -> list[Tensor]:
    x, y = probe(problem)
    oracle = Oracle(problem)
    return [problem.x0, problem.y0, *oracle.df(x, y), *oracle.dg(x, y)]


def float32_agrees(target: str) -> None:
    """The problem in float32 has the numbers of float64, rounded."""
    exact, rough = (built(target, dtype=dtype) for dtype in (torch.float64, torch.float32))
    for name in ("f", "g"):
        x, y = probe(exact)
        one = float(getattr(exact, name)(x, y))
        other = getattr(rough, name)(x.float(), y.float())
        assert other.dtype == torch.float32, f"{name} answers {other.dtype} in a float32 run; put all its data"
        assert abs(one - float(other)) <= 1e-4 * (1 + abs(one)), (
            f"{name} is {float(other):g} in float32, {one:g} in float64"
        )


def minibatches_average_to_the_whole(target: str) -> None:
    """The mean of the gradients of disjoint minibatches of one size is the full gradient."""
    problem = built(target)
    x, y = probe(problem)
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


CHECKS: dict[str, Callable[[str], str | None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        finite_at_the_start, gradients_are_right, second_order_products_are_right, constraints_are_differentiable,
        says_what_it_shows, lines_to_beat_are_there, seeds_mean_something, float32_agrees,
        minibatches_average_to_the_whole,
    )
}  # fmt: skip
