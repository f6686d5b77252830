"""Linear hyper-representation: an embedding above, a linear head below."""

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem


@problem(
    "hyper_representation",
    family="representation",
    shows="minimisers of Phi that are not isolated, and the variance of zeroth-order methods",
)
def hyper_representation(
    rng: Draw, n: int = 50, p: int = 20, d: int = 5, gamma: float = 0.1, noise: float = 0.1
) -> Problem:
    """An embedding H of shape (p, d) above, a head w of length d below, inputs and targets Gaussian.

    g = 1/2 |A H w - t|^2 / n + gamma/2 |w|^2,  f = 1/2 |B H w - s|^2 / n,  t = A H* w* + noise and s likewise; x0 is
    normal with variance 1/p, w0 = 0. After Sow, Ji, Liang, NeurIPS 2022, and Grazzi et al., ICML 2020; means in place
    of their sums, sizes are ours, and gamma = 0.1 as theirs is unverified. Without noise and with gamma = 0 Phi* = 0,
    on a manifold: H R is as good as H for every invertible R. Shows: minimisers of Phi that are not isolated, a lower
    level that degenerates with H, the variance of zeroth-order methods in p d variables.
    """
    if min(n, p, d) < 1 or gamma < 0 or noise < 0:
        raise ValueError("n, p and d are at least 1, gamma and noise at least 0")
    truth, head = rng.normal(p, d) / p**0.5, rng.normal(d)
    inputs = rng.normal(2, n, p)
    A, B, t, s = rng.put(inputs[0], inputs[1], *(part @ truth @ head + noise * rng.normal(n) for part in inputs))
    eye = rng.put(torch.eye(d, dtype=torch.float64))

    def f(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        inputs, targets = (B, s) if rows is None else (B[rows], s[rows])
        residual = inputs @ (x.view(p, d) @ y) - targets
        return 0.5 * residual @ residual / len(residual)

    def g(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
        inputs, targets = (A, t) if rows is None else (A[rows], t[rows])
        residual = inputs @ (x.view(p, d) @ y) - targets
        return 0.5 * residual @ residual / len(residual) + 0.5 * gamma * y @ y

    def y_star(x: Tensor) -> Tensor:
        features = A.to(x) @ x.view(p, d)
        return torch.linalg.solve(features.T @ features / n + gamma * eye.to(x), features.T @ t.to(x) / n)

    easy = gamma == 0 and noise == 0 and n >= d
    return Problem(
        f=f,
        g=g,
        x0=(rng.normal(p, d) / p**0.5).flatten(),
        y0=torch.zeros(d, dtype=torch.float64),
        n_f=n,
        n_g=n,
        y_star=y_star,
        phi_star=0.0 if easy else None,
        phi_star_source="by construction: H = H* fits both halves" if easy else "",
        flags=frozenset({"strongly_convex"} if gamma else {"convex"}),
    )
