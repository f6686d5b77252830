"""A support vector machine with a penalty per training example: inequalities that couple w, b and the slacks."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import leaky_relu

from bilevelbench import Draw, Problem, box, problem
from bilevelbench.data.count import seen
from bilevelbench.data.find import libsvm

BOUND = 10.0  # of the log-penalties
FEATURES = 10


@problem(
    "svm",
    family="constrained",
    shows="one inequality per example below: what has no way with constraints cannot take part",
)
def svm(rng: Draw, n: int = 150, m: int = 150, clean: bool = False) -> Problem:
    """Soft-margin SVM on breast-cancer_scale (683 x 10), n rows to train, m to validate, the others to test.

    x_i in [-10, 10] is the log-penalty of example i, y = (w, b, slacks):  g = 1/2 |w|^2 + 1/2 sum_i exp(x_i) slack_i^2
    subject to  1 - slack_i - t_i (w'a_i + b) <= 0,  f = mean over validation rows of leaky(2 sigmoid(-5 s r) - 1), r =
    (w'a + b) / |w|, leaky with slope 0.01 below 0. LV-HBA (Yao, Yu, Zeng, Zhang, ICLR 2024) and its code, with these
    deviations: the mean for the sum, these data for diabetes, and bounds on x. x0 is uniform in [-6, -5], w = 1, b = 0,
    slack = 1, as there. At a minimum slack_i = max(0, 1 - t_i (w'a_i + b)), so y* and the projection on the
    constraints are squared-hinge problems in (w, b) alone, solved by Newton's method; y* is differentiable while the
    active rows stay.

    The first feature of these data is the sample's number, no measurement. By the nine others 234 of the 683 rows
    repeat an earlier one (always with its label), so that many rows outside training have a twin there; ``clean``
    leaves those out of validation and test.
    """
    matrix, labels = libsvm("breast-cancer_scale")
    if min(n, m) < 2 or n + m > len(labels):
        raise ValueError(f"n and m are at least 2 and at most {len(labels)} together")
    order = rng.permutation(len(labels)).numpy()
    if clean:
        order = without_twins(matrix, order, n)
        if n + m > len(order):
            raise ValueError(f"m is {m}, and {len(order) - n} rows outside training have no twin in it")
    inputs = torch.from_numpy(matrix.toarray()[order])
    signs = torch.from_numpy(np.where(labels[order] == labels.max(), 1.0, -1.0))  # 4 is malignant
    A, t, B, s, C, u = rng.put(
        inputs[:n], signs[:n], inputs[n : n + m], signs[n : n + m], inputs[n + m :], signs[n + m :]
    )

    def margins(y: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        return labels * (rows @ y[:FEATURES] + y[FEATURES])

    def f(x: Tensor, y: Tensor) -> Tensor:
        distance = margins(y, B, s) / y[:FEATURES].norm()
        return leaky_relu(2 * torch.sigmoid(-5 * distance) - 1).mean()

    def g(x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y[:FEATURES] @ y[:FEATURES] + 0.5 * (torch.exp(x) * y[FEATURES + 1 :] ** 2).sum()

    def lifted(x: Tensor) -> Tensor:
        return t[:, None].to(x) * torch.cat([A.to(x), torch.ones_like(A[:, :1]).to(x)], 1)

    def y_star(x: Tensor) -> Tensor:
        Z, weights = lifted(x), torch.exp(x)
        damping = torch.ones(FEATURES + 1).to(x)
        damping[-1] = 0.0
        theta = hinge(Z, weights, torch.ones_like(x), damping, torch.zeros_like(damping))
        return torch.cat([theta, torch.relu(1 - Z @ theta)])

    def project(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        Z, slack = lifted(x), y[FEATURES + 1 :]
        near = y[: FEATURES + 1]
        theta = hinge(Z, torch.ones_like(slack), 1 - slack, torch.ones_like(near), near)
        return x.clamp(-BOUND, BOUND), torch.cat([theta, torch.maximum(slack, 1 - Z @ theta)])

    def accuracy(x: Tensor, y: Tensor) -> dict[str, float]:
        sets = {"accuracy": (B, s), "test_accuracy": (C, u)}
        return {name: float((margins(y, *part) > 0).double().mean()) for name, part in sets.items() if len(part[0])}

    start = torch.ones(FEATURES + 1 + n, dtype=torch.float64)
    start[FEATURES] = 0.0
    return Problem(
        f=f,
        g=g,
        x0=rng.uniform(-6, -5, n),
        y0=start,
        y_star=y_star,
        metrics=accuracy,
        better={"accuracy": "higher", "test_accuracy": "higher"},
        project_x=box(-BOUND, BOUND),
        h_g=lambda x, y: 1 - y[FEATURES + 1 :] - margins(y, A, t),
        project_xy=project,
        flags=frozenset({"convex", "kinked"}),
    )


def without_twins(matrix: csr_matrix, order: np.ndarray, n: int) -> np.ndarray:
    """``order`` without what comes after its first n rows and has the inputs of one of them, the first column apart."""
    train, rest = order[:n], order[n:]
    return np.concatenate([train, rest[~seen(matrix[rest, 1:], matrix[train, 1:])]])


def hinge(Z: Tensor, weights: Tensor, offsets: Tensor, damping: Tensor, near: Tensor) -> Tensor:
    """argmin 1/2 sum_j damping_j (theta - near)_j^2 + 1/2 sum_i weights_i max(0, offsets_i - Z_i theta)^2.

    Newton's method with halved steps, exact once the active rows are found; then one linear solve on them, through
    which it is differentiable in weights.
    """
    z, c, a, D, centre = (part.detach() for part in (Z, weights, offsets, damping, near))

    def value(theta: Tensor) -> Tensor:
        return 0.5 * (D * (theta - centre) ** 2).sum() + 0.5 * (c * torch.relu(a - z @ theta) ** 2).sum()

    def newton(active: Tensor) -> Tensor:
        rows, w = Z[active], weights[active]
        hessian = torch.diag(damping) + rows.T @ (w[:, None] * rows)
        return torch.linalg.solve(hessian, damping * near + rows.T @ (w * offsets[active]))

    theta = centre.clone()
    active = torch.ones_like(a, dtype=torch.bool)
    for _ in range(100):
        goal, size = newton(active).detach(), 1.0
        while size > 1e-8 and value(theta + size * (goal - theta)) > value(theta):
            size /= 2
        theta = theta + size * (goal - theta)
        before, active = active, z @ theta < a
        if size == 1.0 and bool((before == active).all()):
            break
    return newton(active)
