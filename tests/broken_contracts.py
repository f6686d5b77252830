"""Solvers and problems that each break one line of the contract."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilevelbench import At, Draw, Oracle, Point, Problem, problem, solver


class Kept(NamedTuple):
    x: Tensor
    y: Tensor
    here: At


def descend(o: Oracle, s: Point, lr: float = 0.1) -> Point:
    x, y = s
    y = o.project_y(y - lr * o.dg_y(x, y))
    return Point(o.project_x(x - lr * o.df_x(x, y)), y)


@solver("changes_its_state")
class ChangesItsState:
    def step(self, o: Oracle, s: Point) -> Point:
        s.x.sub_(0.1 * o.df_x(s.x, s.y))
        return Point(s.x, s.y)


@solver("starts_ahead")
class StartsAhead:
    def init(self, o: Oracle, x: Tensor, y: Tensor) -> Point:
        return Point(x, o.project_y(y - 0.1 * o.dg_y(x, y)))

    def step(self, o: Oracle, s: Point) -> Point:
        return descend(o, s)


@solver("keeps_a_point")
class KeepsAPoint:
    def init(self, o: Oracle, x: Tensor, y: Tensor) -> Kept:
        return Kept(x, y, o.at(x, y))

    def step(self, o: Oracle, s: Kept) -> Kept:
        return Kept(*descend(o, Point(s.x, s.y)), o.at(s.x, s.y))


@solver("forgets_its_seed")
class ForgetsItsSeed:
    def step(self, o: Oracle, s: Point) -> Point:
        x, y = descend(o, s)
        return Point(o.project_x(x + torch.rand_like(x)), y)


@solver("hides_nan")
class HidesNan:
    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        y = o.project_y(y - 0.1 * torch.nan_to_num(o.dg_y(x, y)))
        return Point(o.project_x(x - 0.1 * torch.nan_to_num(o.df_x(x, y))), y)


@solver("divides_by_zero")
class DividesByZero:
    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        direction = o.df_x(x, y)
        return Point(o.project_x(x - 0.1 * direction / direction.norm()), y)


@solver("wanders")
class Wanders:
    def step(self, o: Oracle, s: Point) -> Point:
        return Point(s.x - 0.1 * o.df_x(s.x, s.y), s.y - 0.1 * o.dg_y(s.x, s.y))


@solver("counts_unevenly")
class CountsUnevenly:
    def step(self, o: Oracle, s: Point) -> Point:
        if o._step % 2:
            o.f(s.x, s.y)
        return descend(o, s)


@solver("remembers")
class Remembers:
    def step(self, o: Oracle, s: Point) -> Point:
        return descend(o, s, 0.1 / (1 + sum(o.calls.values())))


def _quadratic(rng: Draw) -> dict:
    c = rng.put(rng.normal(3))
    return {
        "f": lambda x, y: 0.5 * (y - c) @ (y - c) + 0.5 * x @ x,
        "g": lambda x, y: 0.5 * (y - x) @ (y - x),
        "x0": rng.normal(3),
        "y0": rng.normal(3),
        "y_star": lambda x: x,
    }


@problem("wrong_optimum")
def wrong_optimum(rng: Draw) -> Problem:
    return Problem(**_quadratic(rng), phi_star=1e3, phi_star_source="wishful thinking")


@problem("wrong_y_star")
def wrong_y_star(rng: Draw) -> Problem:
    return Problem(**{**_quadratic(rng), "y_star": lambda x: x + 0.1})


@problem("detached")
def detached(rng: Draw) -> Problem:
    parts = _quadratic(rng)
    return Problem(**{**parts, "f": lambda x, y: parts["f"](x, y.detach()) + 0 * y.sum()})


@problem("unseeded")
def unseeded(rng: Draw) -> Problem:
    return Problem(**_quadratic(Draw(5)))


@problem("stays_float64")
def stays_float64(rng: Draw) -> Problem:
    c = rng.normal(3)
    return Problem(**{**_quadratic(rng), "f": lambda x, y: 0.5 * (y - c) @ (y - c) + 0.5 * x @ x})


@problem("draws_anew")
def draws_anew(rng: Draw) -> Problem:
    """By a millionth only."""
    c = 1e-6 * torch.from_numpy(np.random.default_rng().standard_normal(3))
    parts = _quadratic(rng)
    return Problem(**{**parts, "f": lambda x, y: parts["f"](x, y - c.to(y))})
