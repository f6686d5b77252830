"""A quadratic on a box below: coordinates at a bound do not answer to x."""

import itertools

import numpy as np
import torch
from scipy.optimize import lsq_linear, nnls
from torch import Tensor

from bilevelbench import Draw, Problem, box, problem


@problem(
    "box_quadratic",
    family="constrained",
    shows="active bounds below: implicit methods that ignore them have a wrong hypergradient",
)
def box_quadratic(rng: Draw, d: int = 4, kappa: float = 10.0, mu: float = 0.1, target: float = 1.5) -> Problem:
    """g = 1/2 y'Ay - x'y on [-1, 1]^d,  f = 1/2 |y - c|^2 + mu/2 |x|^2, eigenvalues of A from 1/kappa to 1.

    c is normal times ``target``: some coordinates of the solution are at a bound, others inside. y*(x) is found by
    bounded least squares, and is a linear solve on the free coordinates. Phi is piecewise quadratic, one piece for
    each of the 3^d faces of the box, and not convex; Phi* is the least over all faces of a quadratic programme in x
    (the free coordinates in their bounds, the multipliers of the others not negative). Constructed for this benchmark,
    after the box-constrained examples of DeSilva (1978) and Falk, Liu (1995), which are in ``bolib``.
    """
    if not 1 <= d <= 6 or kappa < 1 or mu <= 0:
        raise ValueError("d is 1 to 6 (Phi* is an enumeration of 3^d faces), kappa is at least 1 and mu positive")
    u = rng.normal(d)
    U = torch.eye(d, dtype=torch.float64) - 2 * torch.outer(u, u) / (u @ u)
    matrix = U @ torch.diag(kappa ** -torch.linspace(0, 1, d, dtype=torch.float64)) @ U
    centre = target * rng.normal(d)
    A, c = rng.put(matrix, centre)
    return Problem(
        f=lambda x, y: 0.5 * (y - c) @ (y - c) + 0.5 * mu * x @ x,
        g=lambda x, y: 0.5 * y @ (A @ y) - x @ y,
        x0=rng.normal(d),
        y0=torch.zeros(d, dtype=torch.float64),
        y_star=lambda x: solve(A.to(x), x),
        phi_star=_optimum(matrix.numpy(), centre.numpy(), mu),
        phi_star_source="least over the 3^d faces of the box of a quadratic programme in x",
        project_y=box(-1, 1),
        flags=frozenset({"strongly_convex", "boundary", "kinked"}),
    )


def solve(A: Tensor, x: Tensor) -> Tensor:
    """argmin y'Ay/2 - x'y on [-1, 1]^d, differentiable in x on the face that it lies on."""
    factor = np.linalg.cholesky(A.cpu().double().numpy())
    goal = np.linalg.solve(factor, x.detach().cpu().double().numpy())
    at = torch.from_numpy(lsq_linear(factor.T, goal, (-1, 1), "bvls", tol=1e-14).active_mask).to(x)
    free = at == 0
    inside = torch.linalg.solve(A[free][:, free], x[free] - A[free] @ at) if bool(free.any()) else x[free]
    return at.index_put((free,), inside)


def _optimum(A: np.ndarray, c: np.ndarray, mu: float) -> float:
    """The least Phi, face by face: there y = T x + s, and x is held by linear inequalities G x <= h."""
    d = len(c)
    best = np.inf
    for face in itertools.product((-1.0, 0.0, 1.0), repeat=d):
        at = np.array(face)
        free = at == 0
        T, s = np.zeros((d, d)), at.copy()
        if free.any():
            inverse = np.linalg.inv(A[np.ix_(free, free)])
            T[np.ix_(free, free)], s[free] = inverse, -inverse @ (A[free] @ at)
        outward = np.where(free, 0.0, at)[:, None] * (A @ T - np.eye(d))  # its negative: multipliers of the bounds
        G = np.vstack([T[free], -T[free], outward[~free]])
        h = np.concatenate([1 - s[free], 1 + s[free], -(at * (A @ s))[~free]])
        best = min(best, _quadratic_programme(T.T @ T + mu * np.eye(d), T.T @ (c - s), G, h, s - c))
    return float(best)


def _quadratic_programme(H: np.ndarray, p: np.ndarray, G: np.ndarray, h: np.ndarray, rest: np.ndarray) -> float:
    """min 1/2 x'Hx - p'x + 1/2 |rest|^2 subject to G x <= h; infinity where no x satisfies it.

    As a least-distance problem, by non-negative least squares (Lawson, Hanson, 1974, chapter 23).
    """
    factor = np.linalg.cholesky(H)
    free = np.linalg.solve(factor, p)  # x = L'^-1 (z + free), and |z| is to be least
    E = -np.linalg.solve(factor, G.T).T
    e = -(h + E @ free)
    dual, residual = nnls(np.vstack([E.T, e]), np.append(np.zeros(len(p)), 1.0))
    if residual < 1e-9:
        return np.inf
    r = np.append(E.T @ dual, e @ dual - 1)
    z = -r[:-1] / r[-1]
    return float(0.5 * z @ z - 0.5 * free @ free + 0.5 * rest @ rest)
