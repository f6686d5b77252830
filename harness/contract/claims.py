"""Claims: what a solver can say of its limit on a quadratic.

A solver's ``certificate`` is the name of a claim below; what a claim depends on is read from the solver's knobs
(``lr_inner``, ``T``, ``K``, ...). W(M) is the root of df/dx + B'M df/dy at y*(x), the limit of a method that uses M in
place of A^-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core.oracle import Oracle

from . import directions, limits
from .quadratic import Quadratic


class Claim(NamedTuple):
    """words: the limit, for people. limit: its x. how: "limit", "floor" (within O(lr)), "mean", "every" or "rule".

    "mean" and "every" are about the first direction: its mean over many runs, and over every outcome of what is drawn.
    """

    words: str
    limit: Callable[[Quadratic, Any], Tensor]
    how: str = "limit"


def _first(s: Any, *names: str) -> Any:
    """The first of these knobs that the solver has and that is set."""
    values = [value for name in names if (value := getattr(s, name, None)) is not None]
    if not values:
        raise AssertionError(f"its certificate needs one of the knobs {', '.join(names)}")
    return values[0]


def _truncated(q: Quadratic, s: Any) -> Tensor:
    return q.truncated(s.lr_inner, s.T)


def _series(q: Quadratic, s: Any) -> Tensor:
    return q.truncated(_first(s, "lr_linear", "lr_inner"), s.K)


def _scaled(q: Quadratic, scale: float) -> Tensor:
    return float(scale) * torch.eye(len(q.A)).double()


def _weights(s: Any) -> list[tuple[float, float]]:
    """What the lower steps of descent aggregation take of df/dy and of dg/dy."""
    mixed = [s.mix / (t + 1) ** s.fade for t in range(s.T)]
    return [(a * _first(s, "lr_upper", "lr_inner"), (1 - a) * s.lr_inner) for a in mixed]


CLAIMS = {
    "exact": Claim("x*", lambda q, s: q.x_star),
    "unrolled": Claim("W(A^-1 (I - E^T)), E = I - lr_inner A", lambda q, s: limits.W(q, _truncated(q, s))),
    "cold": Claim("argmin f(x, y_T(x)), y_T from T steps at y0", lambda q, s: limits.cold(q, s.lr_inner, s.T)),
    "cold_cut": Claim(
        "where df/dx + B'A^-1 (I - E^K) df/dy vanishes at y_T(x), y_T from T steps at y0",
        lambda q, s: limits.cold_cut(q, s.lr_inner, s.T, s.K),
    ),
    "aggregated": Claim(
        "argmin f(x, y_T(x)), y_T from T steps at y0 along a_t df/dy + (1 - a_t) dg/dy, a_t = mix (t + 1)^-fade",
        lambda q, s: limits.aggregated(q, _weights(s)),
    ),
    "pessimistic": Claim(
        "argmin of max_t f(x, y_t), t = 1..T, over x and the start of the lower loop",
        lambda q, s: limits.pessimistic(q, s.lr_inner, s.T, s.lr_z != 0),
    ),
    "neumann": Claim("W(A^-1 (I - (I - lr_linear A)^K))", lambda q, s: limits.W(q, _series(q, s))),
    "identity": Claim("W(scale I)", lambda q, s: limits.W(q, _scaled(q, _first(s, "scale", "lr_inner")))),
    "shifted": Claim(
        "W((A + rho I)^-1)",
        lambda q, s: limits.W(q, torch.linalg.inv(q.A + _scaled(q, _first(s, "rho", "damping")))),
    ),
    "direct": Claim("W(0), where df/dx vanishes along y*(x)", lambda q, s: limits.W(q, torch.zeros_like(q.A))),
    "penalty": Claim(
        "argmin f + c (g - min g), c = lam or gamma: x* within O(1/c)",
        lambda q, s: limits.penalised(q, q.A, _first(s, "lam", "gamma")),
    ),
    "penalty2": Claim(
        "root of the central difference in 1/lam: x* within O(1/lam^2)", lambda q, s: limits.central(q, s.lam)
    ),
    "gradient_penalty": Claim(
        "argmin f + gamma/2 |dg/dy|^2: x* within O(1/gamma)", lambda q, s: limits.penalised(q, q.A @ q.A, s.gamma)
    ),
    "moreau": Claim(
        "argmin f + c (g - its Moreau envelope), c = c or lam, tau = gamma: x* within O(1/c)",
        lambda q, s: limits.penalised(q, limits.moreau(q, s.gamma), _first(s, "c", "lam")),
    ),
    "value_penalty": Claim(
        "where f and sigma/2 times the squared value gap are stationary, mu and theta regularising z and y: "
        "x* as sigma grows and they fall",
        lambda q, s: limits.value_penalised(q, s.sigma, s.mu, s.theta),
    ),
    "direct_penalty": Claim(
        "where df/dx vanishes along argmin f/gamma + g: W(0) within O(1/gamma)", lambda q, s: limits.direct(q, s.gamma)
    ),
    "helped": Claim("where Penalty ends at fixed gamma and lam", lambda q, s: limits.helped(q, s.gamma, s.lam)),
    "truncated": Claim(
        "W(A^-1 (I - E^T)) within O(lr), E = I - lr_inner A", lambda q, s: limits.W(q, _truncated(q, s)), "floor"
    ),
    "exact_floor": Claim("x* within O(lr)", lambda q, s: q.x_star, "floor"),
    "unrolled_mean": Claim(
        "the mean of its direction is the gradient of f(x, y_T(x))",
        lambda q, s: directions.unrolled(q, s.lr_inner, s.T),
        "mean",
    ),
    "neumann_mean": Claim(
        "the mean of its direction is the Neumann series of K terms at y_T",
        lambda q, s: directions.series(q, s.lr_inner, s.T, _first(s, "lr_linear", "lr_inner"), s.K),
        "every",
    ),
    "columns": Claim(
        "W((C W^-1 C' + rho I)^-1), C the K chosen columns of A, W the chosen rows of C",
        lambda q, s: limits.W(q, q.columns(s.init(Oracle(q.problem, 0), q.problem.x0, q.problem.y0).S.tolist(), s.rho)),
    ),
    "columns_mean": Claim(
        "the mean of its direction is that of df/dx + B'(C W^-1 C' + rho I)^-1 df/dy at y_T over all K columns of A",
        lambda q, s: directions.mean_of_columns(q, s.lr_inner, s.T, s.K, s.rho),
        "every",
    ),
    "adapted": Claim(
        "its direction is df/dx + B'D df/dy at y_T from T steps of Adam, D the derivative of the last in its gradient",
        lambda q, s: directions.adapted(q, s.lr_inner, s.T, s.beta),
        "every",
    ),
    "averaged": Claim(
        "argmin f(x, y(x)), y(x) that of mu f + (1 - mu) g: x* within O(mu)",
        lambda q, s: limits.averaged(q, s.mu),
    ),
    "still": Claim("x0: x never moves", lambda q, s: q.problem.x0),
    "descent": Claim("none: f(x, y_T(x)) at its best sample never rises", lambda q, s: q.x_star, "rule"),
    "none": Claim("none", lambda q, s: q.x_star, "rule"),
}
