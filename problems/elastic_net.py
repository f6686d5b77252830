"""The two penalties of an elastic net: a lower level with kinks."""

import functools
import warnings
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.linear_model import enet_path
from torch import Tensor

from bilevelbench import Draw, Problem, problem

LEAST = 1e-3  # of both penalties: g(x, .) stays strongly convex
GRID = (13, 9)  # of the search for the best penalties, over their logarithms


@problem(
    "elastic_net",
    family="regularisation",
    shows="a nonsmooth lower level: the Hessian of its smooth part says nothing about the zeros of y*",
)
def elastic_net(
    rng: Draw,
    n: int = 40,
    m: int = 40,
    p: int = 50,
    nonzero: int = 8,
    noise: float = 1.0,
    form: Literal["subgradient", "split"] = "subgradient",
) -> Problem:
    """Choosing the penalties of an elastic net, n rows to train, m to validate, p features, a sparse truth.

    g = 1/2 |Ay - b|^2 + x1 |y|_1 + x2/2 |y|^2,  f = 1/2 |By - s|^2, x >= 1e-3 from (1, 0.5), y0 = 0. A, B and noise
    are normal, and so are ``nonzero`` entries of the truth. Gao, Ye, Yin, Zeng, Zhang, ICML 2022 (x >= 0 there, 100
    rows and 250 features or more, unverified). ``form`` is what solvers see of |y|_1: "subgradient", torch's
    derivative, sign(y) with 0 at 0, so that second derivatives are those of the smooth part; "split", y = u - v with
    (u, v) >= 0 in R^2p and 1'(u + v) for the norm, smooth with bounds, but merely convex. y*(x) by an active-set
    method, exact, and differentiable while the set of its nonzero entries stays. Phi* by a grid of 13 x 9 penalties,
    then Nelder and Mead's method from the two best.
    """
    if min(n, m, p) < 1 or not 0 <= nonzero <= p or noise < 0:
        raise ValueError("n, m and p are at least 1, nonzero is at most p and noise not negative")
    inputs, others, truth = rng.normal(n, p), rng.normal(m, p), rng.normal(p)
    truth[rng.permutation(p)[nonzero:]] = 0
    goal, goals = inputs @ truth + noise * rng.normal(n), others @ truth + noise * rng.normal(m)
    A, b, B, s = rng.put(inputs, goal, others, goals)
    split = form == "split"

    def signed(y: Tensor) -> Tensor:
        return y[:p] - y[p:] if split else y

    def g(x: Tensor, y: Tensor) -> Tensor:
        w = signed(y)
        residual = A @ w - b
        return 0.5 * residual @ residual + x[0] * (y.sum() if split else y.abs().sum()) + 0.5 * x[1] * w @ w

    def f(x: Tensor, y: Tensor) -> Tensor:
        residual = B @ signed(y) - s
        return 0.5 * residual @ residual

    def y_star(x: Tensor) -> Tensor:
        w = solve(A.to(x), b.to(x), x)
        return torch.cat([torch.relu(w), torch.relu(-w)]) if split else w

    return Problem(
        f=f,
        g=g,
        x0=torch.tensor([1.0, 0.5], dtype=torch.float64),
        y0=torch.zeros(2 * p if split else p, dtype=torch.float64),
        y_star=y_star,
        phi_star=_optimum(*(part.numpy().tobytes() for part in (inputs, goal, others, goals)), n, m),
        phi_star_source="grid of 13 x 9 penalties by an active-set method, then local searches",
        project_x=lambda x: torch.clamp(x, min=LEAST),
        project_y=(lambda y: torch.clamp(y, min=0.0)) if split else None,
        flags=frozenset({"convex", "boundary", "kinked"} if split else {"strongly_convex", "nonsmooth", "kinked"}),
    )


def solve(A: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The elastic net of penalties x, differentiable in x by the linear system of its nonzero entries."""
    inputs, goal, (x1, x2) = (part.detach().cpu().double().numpy() for part in (A, b, x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coordinate descent need not converge: it is a start
        near = enet_path(inputs, goal, alphas=[(x1 + x2) / len(goal)], l1_ratio=x1 / (x1 + x2), max_iter=300, tol=1e-8)[
            1
        ][:, 0]
    signs = torch.from_numpy(np.sign(active_set(inputs.T @ inputs, inputs.T @ goal, x1, x2, near))).to(x)
    on = signs != 0
    gram = A[:, on].T @ A[:, on] + x[1] * torch.eye(int(on.sum())).to(x)
    return torch.zeros_like(signs).index_put((on,), torch.linalg.solve(gram, A[:, on].T @ b - x[0] * signs[on]))


def active_set(gram: np.ndarray, moment: np.ndarray, x1: float, x2: float, w: np.ndarray | None = None) -> np.ndarray:
    """argmin 1/2 w'Gw - c'w + x1 |w|_1 + x2/2 |w|^2 by the feature-sign search of Lee, Battle, Raina, Ng (2006).

    Entries that violate their condition most enter one by one; a step that would change a sign is cut where an entry
    reaches 0, and that entry leaves. Finite, since the objective falls.
    """
    w = np.zeros(len(moment)) if w is None else w.copy()
    signs = np.sign(w)
    for _ in range(100 * len(w)):
        on = signs != 0
        goal = np.zeros_like(w)
        goal[on] = np.linalg.solve(gram[np.ix_(on, on)] + x2 * np.eye(int(on.sum())), moment[on] - x1 * signs[on])
        crossing = on & (goal * signs < 0)
        if crossing.any():
            shares = np.full(len(w), np.inf)
            shares[crossing] = w[crossing] / (w[crossing] - goal[crossing])
            first = int(shares.argmin())
            w = w + shares[first] * (goal - w)
            w[first] = signs[first] = 0.0
            continue
        w = goal
        slope = moment - gram @ w - x2 * w
        excess = np.where(on, 0.0, np.abs(slope) - x1)
        enters = int(excess.argmax())
        if excess[enters] <= 1e-11 * (1 + np.abs(moment).max()):
            break
        signs[enters] = np.sign(slope[enters])
    return w


@functools.lru_cache(maxsize=32)
def _optimum(A: bytes, b: bytes, B: bytes, s: bytes, n: int, m: int) -> float:
    """The least Phi over both penalties."""
    inputs, others = (np.frombuffer(part).reshape(rows, -1) for part, rows in ((A, n), (B, m)))
    goal, goals = np.frombuffer(b), np.frombuffer(s)
    gram, moment = inputs.T @ inputs, inputs.T @ goal
    near = np.zeros(len(moment))

    def phi(logs: np.ndarray) -> float:
        nonlocal near
        x1, x2 = np.maximum(np.exp(logs), LEAST)
        near = active_set(gram, moment, x1, x2, near)
        return float(0.5 * np.square(others @ near - goals).sum())

    low, high = np.log(LEAST), np.log(np.abs(moment).max())
    points = [np.array([u, v]) for v in np.linspace(low, high, GRID[1]) for u in np.linspace(high, low, GRID[0])]
    best = min(starts := sorted((phi(point), *point) for point in points))[0]
    options = {"xatol": 1e-8, "fatol": 1e-11, "maxiter": 150}
    for _, u, v in starts[:2]:
        found = minimize(phi, [u, v], method="Nelder-Mead", bounds=[(low, high)] * 2, options=options)
        best = min(best, float(found.fun))
    return best
