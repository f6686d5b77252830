"""An equality that couples x and y in the lower level, linear or cubic in x."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from bilevelbench import Draw, Problem, problem


@problem(
    "coupled_equality",
    family="constrained",
    shows="a coupled equality below: what ignores it, or its multiplier, ends elsewhere",
)
def coupled_equality(rng: Draw, k: int = 100, cubic: bool = False) -> Problem:
    """The "LLC" example of LV-HBA (Yao, Yu, Zeng, Zhang, ICLR 2024), x in R^k, y = (y1, y2) in R^2k.

    g = 1/2 |y1|^2 - x'y1 + 1'y2  subject to  1'x + 1'y1 + 1'y2 = 0,  f = 1/2 |x - y2|^2 + 1/2 |y1 - 1|^2. The
    equality is two inequalities in ``h_g``. y1 = x + 1, and y2 is known by its sum only: the optimistic one is nearest
    to x. x* = -0.3, y1* = 0.7, y2* = -0.4 in every entry, Phi* = 0.05 k. x0 and y0 are those of the authors' code,
    -20 and 10. ``cubic``: the sum of x^3 in place of that of x, a form attributed to BiC-GAFFA (Yao, Yin, Zeng, Zhang,
    ICLR 2025) that is unverified; x0 is then the point with equal entries that satisfies it. Its symmetric
    stationary point, -0.3907 in every entry with Phi = 0.08896 k, is not the minimum where k is large: one entry far
    out is cheaper. Phi* is the least over points with two different entries, all that stationarity allows.
    """
    if k < 1:
        raise ValueError("k is at least 1")

    def power(x: Tensor) -> Tensor:
        return (x**3 if cubic else x).sum()

    def equality(x: Tensor, y: Tensor) -> Tensor:
        total = power(x) + y.sum()
        return torch.stack([total, -total])

    def optimistic(x: Tensor) -> Tensor:
        y1 = x + 1
        return torch.cat([y1, x - (x.sum() + power(x) + y1.sum()) / k])

    def project(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x.sum() + y.sum()) / (3 * k)
        return x - mean, y - mean

    start = -(20 ** (1 / 3)) if cubic else -20.0
    return Problem(
        f=lambda x, y: 0.5 * (x - y[k:]).square().sum() + 0.5 * (y[:k] - 1).square().sum(),
        g=lambda x, y: 0.5 * y[:k] @ y[:k] - x @ y[:k] + y[k:].sum(),
        x0=torch.full((k,), start, dtype=torch.float64),
        y0=torch.full((2 * k,), 10.0, dtype=torch.float64),
        y_star=optimistic,
        phi_star=_cubic_optimum(k) if cubic else 0.05 * k,
        phi_star_source="search over points with at most two different entries" if cubic else "closed form: 0.05 k",
        h_g=equality,
        project_xy=None if cubic else project,
        flags=frozenset({"convex", "multi_valued"} if k > 1 else {"convex"}),
        selection="optimistic: of all y2 with the sum that is left, the one nearest to x, in closed form",
        seeded=False,
    )


def _cubic_optimum(k: int) -> float:
    """The least of |x|^2 / 2 + (sum_i w(x_i) + k)^2 / (2k), w(x) = 2x + x^3.

    Stationary entries solve x + r (2 + 3 x^2) = 0 with one r for all, a quadratic whose two roots have product 2/3:
    j entries are a, the others 2 / (3a).
    """

    def phi(a: Any, b: Any, j: Any) -> Any:
        total = j * (2 * a + a**3) + (k - j) * (2 * b + b**3) + k
        return (j * a**2 + (k - j) * b**2) / 2 + total**2 / (2 * k)

    root = (2 / 3) ** 0.5
    same = minimize_scalar(lambda b: phi(b, b, 0), bounds=(-1, 0), method="bounded", options={"xatol": 1e-12}).fun
    if k == 1:
        return float(same)
    far = -np.geomspace(root, 2 + 2 * k ** (1 / 3), 4000)
    counts = np.arange(1, k)[:, None]
    values = phi(far, 2 / (3 * far), counts)
    j, i = divmod(int(values.argmin()), len(far))
    near = (far[min(i + 1, 3999)], far[max(i - 1, 0)])
    best = minimize_scalar(
        lambda a: phi(a, 2 / (3 * a), j + 1), bounds=near, method="bounded", options={"xatol": 1e-12}
    ).fun
    return float(min(same, best))
