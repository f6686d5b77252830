"""The four synthetic problems of the Penalty paper: one lower solution or many, f convex or indefinite."""

from typing import Literal

import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from bilevelbench import Draw, Problem, box, problem

BOUND = 5.0  # of every coordinate of x and of y
TILT = 1e-4  # weight of y beside A (y - w): enough to tell which coordinates of the shortest y are at a bound


@problem(
    "penalty_example",
    family="penalty_examples",
    shows="a null space in the lower level, an indefinite f: many find x*, only penalties the right y",
)
def penalty_example(rng: Draw, example: Literal[1, 2, 3, 4, 5] = 1) -> Problem:
    """Four quadratics on a box: a unique lower solution or a null space of them, f convex or indefinite.

    x and y in [-5, 5]^20, two blocks of 10 each; start uniform. A = blockdiag(A1, A2), each 5 x 10 and normal, in
    examples 3 to 5, A = I in 1 and 2; P the projection on the rows of A. 5 is SMD22, not in the paper.
    1, 3:  g = |A(1 - x - y)|^2,  f = |x|^2 + |y|^2;         x* = y* = P1 / 2,  Phi* = |P1|^2 / 2, 10 in example 1
    2, 4:  g = |A(x - y)|^2,      f = |y|^2 - |A(x - y)|^2;  P x* = 0, y* = 0,  Phi* = 0
    5:     g = |A(x - y)|^2,      f = |Ay|^2 - |A(x - y)|^2; P x* = P y* = 0,   Phi* = 0, f the same on argmin g
    y*(x) is the shortest minimiser within the box: P(1 - x) or Px if that lies inside. ``error`` is the paper's
    distance: of (x, y) to (1/2, 1/2), both under P, in 1 and 3; of (Px, y) to 0 in 2 and 4. Shows: alternating
    descent ends far away; unrolled and implicit methods never move what A does not see of y, so that in 3 and 4
    their x is right (phi_gap) and their y is not the optimistic one (f; ``error`` shows it in 4 only); linear
    systems are singular there. Mehra, Hamm, ACML 2021, synthetic examples; R^20 as in their code and curves, the
    text says R^10. Their solutions of 3 are all (1/2 + p, 1/2 + p) with Ap = 0, though f differs among them, and
    ``error`` does not see p. Their code has f - 1 in example 1 (Phi* = 9), and draws A without a seed, another one
    for every method; here A depends on the seed only, one for all methods and for 3 and 4, and so does the start.
    """
    x0, y0 = rng.uniform(-BOUND, BOUND, 20), rng.uniform(-BOUND, BOUND, 20)
    matrix = torch.block_diag(*rng.normal(2, 5, 10)) if example > 2 else torch.eye(20, dtype=torch.float64)
    projection = torch.linalg.pinv(matrix) @ matrix
    A, P = rng.put(matrix, projection)
    sums = example in (1, 3)

    def answer(x: Tensor) -> Tensor:  # a y with g(x, y) = 0, not always in the box
        return 1 - x if sums else x

    def g(x: Tensor, y: Tensor) -> Tensor:
        return (A @ (answer(x) - y)).square().sum()

    def f(x: Tensor, y: Tensor) -> Tensor:
        if sums:
            return y @ y + x @ x
        return (y @ y if example < 5 else (A @ y).square().sum()) - g(x, y)

    def error(x: Tensor, y: Tensor) -> dict[str, float]:
        apart = (P @ (x - 0.5), P @ (y - 0.5)) if sums else (P @ x, P @ y if example == 5 else y)
        return {"error": float(torch.cat(apart).norm())}

    return Problem(
        f=f,
        g=g,
        x0=x0,
        y0=y0,
        y_star=lambda x: shortest(A, P, answer(x)),
        phi_star=float(projection.sum()) / 2 if sums else 0.0,
        phi_star_source="closed form: |P1|^2 / 2 at x = y = P1 / 2"
        if sums
        else "closed form: Phi >= 0, and 0 at Px = 0",
        metrics=error,
        better={"error": "lower"},
        project_x=box(-BOUND, BOUND),
        project_y=box(-BOUND, BOUND),
        flags=frozenset({"strongly_convex"} if example < 3 else {"convex", "pl", "multi_valued"}),
        selection=""
        if example < 3
        else "optimistic: f does not fall with |y| among minimisers, and y* is the shortest",
    )


def shortest(A: Tensor, P: Tensor, w: Tensor) -> Tensor:
    """The shortest minimiser of |A (y - w)| in the box, differentiable in w.

    It is Pw if that lies inside. Otherwise bounded least squares with a small weight on y say which coordinates are
    at a bound, and the others have a closed form: the shortest least-squares solution that is left.
    """
    y = P @ w
    if float(y.detach().abs().max()) <= BOUND:
        return y
    rows, target = torch.cat([A, TILT * torch.eye(len(w)).to(A)]), torch.cat([A @ w.detach(), torch.zeros_like(w)])
    found = lsq_linear(rows.cpu().numpy(), target.cpu().numpy(), (-BOUND, BOUND), "bvls", tol=1e-14)
    at = BOUND * torch.from_numpy(found.active_mask).to(w)
    free = at == 0
    rest = torch.linalg.pinv(A[:, free]) @ (A @ (w - at))
    return at.index_put((free,), rest)
