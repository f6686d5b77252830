"""Ridge regression with penalties to be chosen, on diabetes: every hypergradient in closed form."""

from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.datasets import load_diabetes
from torch import Tensor

from bilevelbench import Draw, Problem, box, problem

BOUND = 12.0  # of the log-penalties
STARTS = 20  # of the search for the best penalties per feature


@problem(
    "ridge",
    family="regularisation",
    shows="wrong hypergradients (they are known in closed form), and gradients that vanish towards infinity",
)
def ridge(
    rng: Draw,
    penalty: Literal["scalar", "per_feature"] = "scalar",
    split: Literal["even_odd", "random"] = "even_odd",
) -> Problem:
    """Choosing the penalties of a ridge regression on diabetes (442 x 10).

    g = |Ay - t|^2 / (2n) + 1/2 sum_j exp(x_j) y_j^2,  f = |By - s|^2 / (2m); x is one log-penalty for all features or
    one for each, in [-12, 12], from 0. Columns and target are standardised by the training half: even rows against
    odd ones, or halves at random by the seed. y*(x) = (A'A/n + diag e^x)^-1 A't/n. Phi* by a bounded search (scalar)
    or by the best of 20 runs of L-BFGS-B (per feature; four coordinates end at a bound, the unconstrained infimum is
    at infinity). Shows: flat directions, the gradient vanishes as x goes to either infinity; a unit test of
    hypergradients.
    """
    data = load_diabetes()
    n = len(data.target)
    order = rng.permutation(n).numpy() if split == "random" else np.r_[np.arange(0, n, 2), np.arange(1, n, 2)]
    train, rest = order[: n // 2], order[n // 2 :]
    inputs = (data.data - data.data[train].mean(0)) / data.data[train].std(0)
    target = (data.target - data.target[train].mean()) / data.target[train].std()
    A, t, B, s = rng.put(inputs[train], target[train], inputs[rest], target[rest])
    gram, moment = rng.put(inputs[train].T @ inputs[train] / len(train), inputs[train].T @ target[train] / len(train))

    def y_star(x: Tensor) -> Tensor:
        diagonal = torch.exp(x).expand(gram.shape[0])
        return torch.linalg.solve(gram.to(x) + torch.diag(diagonal), moment.to(x))

    def f(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        residual = B @ y - s if rows is None else B[rows] @ y - s[rows]
        return 0.5 * residual @ residual / len(residual)

    def g(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        residual = A @ y - t if rows is None else A[rows] @ y - t[rows]
        return 0.5 * residual @ residual / len(residual) + 0.5 * (torch.exp(x) * y**2).sum()

    scalar = penalty == "scalar"
    size = 1 if scalar else inputs.shape[1]
    parts = (inputs[train], target[train], inputs[rest], target[rest])
    return Problem(
        f=f,
        g=g,
        x0=torch.zeros(size, dtype=torch.float64),
        y0=torch.zeros(inputs.shape[1], dtype=torch.float64),
        n_f=len(rest),
        n_g=len(train),
        y_star=y_star,
        phi_star=_optimum(*parts, size),
        phi_star_source="bounded search on the closed form" if scalar else f"best of {STARTS} runs of L-BFGS-B",
        project_x=box(-BOUND, BOUND),
        flags=frozenset({"strongly_convex"} if scalar else {"strongly_convex", "boundary"}),
        seeded=split == "random",
    )


def _optimum(A: np.ndarray, t: np.ndarray, B: np.ndarray, s: np.ndarray, size: int) -> float:
    """The least Phi over the log-penalties in the box."""
    gram, moment, m = A.T @ A / len(t), A.T @ t / len(t), len(s)

    def phi(x: np.ndarray) -> tuple[float, np.ndarray]:
        D = np.exp(np.broadcast_to(x, (gram.shape[0],)))
        H = gram + np.diag(D)
        w = np.linalg.solve(H, moment)
        residual = B @ w - s
        v = np.linalg.solve(H, B.T @ residual / m)
        gradient = -D * w * v
        return float(0.5 * residual @ residual / m), np.array([gradient.sum()]) if size == 1 else gradient

    if size == 1:
        grid = np.linspace(-BOUND, BOUND, 97)
        k = int(np.argmin([phi(np.array([x]))[0] for x in grid]))
        bounds = (grid[max(k - 1, 0)], grid[min(k + 1, 96)])
        found = minimize_scalar(
            lambda x: phi(np.array([x]))[0], bounds=bounds, method="bounded", options={"xatol": 1e-10}
        )
        return float(found.fun)
    rng = np.random.default_rng(0)  # of the search, not of the problem
    starts = [np.zeros(size), *rng.uniform(-6, 6, (STARTS - 1, size))]
    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-12}
    return min(
        float(minimize(phi, x, jac=True, method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * size, options=options).fun)
        for x in starts
    )
