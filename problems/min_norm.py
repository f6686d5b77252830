"""Least norm among least-squares solutions: a choice among lower solutions, without an upper variable that matters."""

import torch

from bilevelbench import Draw, Problem, problem


@problem(
    "min_norm",
    family="multi_valued",
    shows="no choice among lower solutions: what descends g alone keeps what y0 has in its null space",
)
def min_norm(rng: Draw, rows: int = 20, d: int = 50, start: float = 1.0) -> Problem:
    """min 1/2 |y|^2 over y in argmin |Ay - b|^2, A of shape (rows, d): y* = A^+ b.

    f = 1/2 |y|^2, g = 1/2 |Ay - b|^2 / rows; x has one coordinate that neither knows. From y0 = 0 everything that
    descends g finds y* by luck, since it never leaves the row space; from y0 != 0 (here normal times ``start``) only
    methods that look at f among the minimisers of g do. Phi is the same everywhere, so ``distance``, |y - y*|, tells
    solvers apart. "Simple bilevel optimisation" is the name of this class.
    """
    if not 1 <= rows <= d:
        raise ValueError("rows is at least 1 and at most d")
    A64, b64, y0 = rng.normal(rows, d) / d**0.5, rng.normal(rows), start * rng.normal(d)
    best = torch.linalg.lstsq(A64, b64[:, None], driver="gelsd").solution[:, 0]
    A, b, y_best = rng.put(A64, b64, best)

    def g(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        residual = A @ y - b
        return 0.5 * residual @ residual / rows

    return Problem(
        f=lambda x, y: 0.5 * y @ y,
        g=g,
        x0=torch.zeros(1, dtype=torch.float64),
        y0=y0,
        y_star=lambda x: y_best.to(x) + 0 * x.sum(),
        phi_star=float(0.5 * best @ best),
        phi_star_source="the pseudo-inverse: 1/2 |A^+ b|^2",
        metrics=lambda x, y: {"distance": float((y - y_best.to(y)).norm())},
        better={"distance": "lower"},
        flags=frozenset({"convex", "pl", "multi_valued"}),
        selection="optimistic: f is |y|^2 / 2, and the pseudo-inverse gives the shortest minimiser",
    )
