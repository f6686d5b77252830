"""A general quadratic bilevel problem and what theory says of every solver's limit on it.

g = y'Ay/2 - y'(Bx + b) + x'Qx/2,  f = y'Py/2 - p'y + x'Rx/2 - r'x + x'Sy, A positive definite, y*(x) = A^-1 (Bx + b).
The term in Q makes sure that value-function methods cancel the gradient of the pure-x part, S exercises the direct
term.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevelbench import Draw, Problem


@dataclass
class Quadratic:
    A: Tensor
    B: Tensor
    b: Tensor
    Q: Tensor
    P: Tensor
    p: Tensor
    R: Tensor
    r: Tensor
    S: Tensor

    @property
    def problem(self) -> Problem:
        A, B, b, Q, P, p, R, r, S = (self.A, self.B, self.b, self.Q, self.P, self.p, self.R, self.r, self.S)
        rng = Draw(11)
        return Problem(
            f=lambda x, y: 0.5 * y @ P @ y - p @ y + 0.5 * x @ R @ x - r @ x + x @ S @ y,
            g=lambda x, y: 0.5 * y @ A @ y - y @ (B @ x + b) + 0.5 * x @ Q @ x,
            x0=rng.normal(len(r)),
            y0=rng.normal(len(p)),
            y_star=self.y_star,
            flags=frozenset({"strongly_convex"}),
        )

    def y_star(self, x: Tensor) -> Tensor:
        return torch.linalg.solve(self.A, self.B @ x + self.b)

    def fx(self, x: Tensor, y: Tensor) -> Tensor:
        return self.R @ x - self.r + self.S @ y

    def fy(self, x: Tensor, y: Tensor) -> Tensor:
        return self.P @ y - self.p + self.S.T @ x

    @property
    def J(self) -> Tensor:
        return torch.linalg.solve(self.A, self.B)

    def hypergradient(self, x: Tensor) -> Tensor:
        y = self.y_star(x)
        return self.fx(x, y) + self.J.T @ self.fy(x, y)

    def E(self, lr: float, power: int) -> Tensor:
        """(I - lr A)^power."""
        return torch.linalg.matrix_power(torch.eye(len(self.A)).double() - lr * self.A, power)

    def truncated(self, lr: float, terms: int) -> Tensor:
        """A^-1 (I - (I - lr A)^terms), the inverse that a series of that many terms stands for."""
        return torch.linalg.solve(self.A, torch.eye(len(self.A)).double() - self.E(lr, terms))

    # -- limits, each the root of an affine map

    def root(self, gradient) -> Tensor:
        """The root of an affine map of x."""
        n = len(self.r)
        zero = gradient(torch.zeros(n).double())
        columns = [gradient(e) - zero for e in torch.eye(n).double()]
        return torch.linalg.solve(torch.stack(columns, 1), -zero)

    def W(self, M: Tensor) -> Tensor:
        """The limit of a method that tracks y*(x) and uses M in place of A^-1."""
        return self.root(lambda x: self.fx(x, self.y_star(x)) + self.B.T @ M @ self.fy(x, self.y_star(x)))

    @property
    def x_star(self) -> Tensor:
        return self.root(self.hypergradient)

    def cold(self, lr: float, T: int, y0: Tensor) -> Tensor:
        """argmin f(x, y_T(x)) with y_T from T steps at y0."""
        E = self.E(lr, T)
        eye = torch.eye(len(self.A)).double()

        def gradient(x: Tensor) -> Tensor:
            y = (eye - E) @ self.y_star(x) + E @ y0
            return self.fx(x, y) + ((eye - E) @ self.J).T @ self.fy(x, y)

        return self.root(gradient)

    def bias(self, x: Tensor, N: Tensor, c: float) -> Tensor:
        """Gradient of the penalised value function, penalty c/2 (y - y*)'N(y - y*), minus the hypergradient."""
        inner = torch.linalg.solve(self.P + c * N, self.fy(x, self.y_star(x)))
        return -(self.S + self.J.T @ self.P) @ inner

    def penalised(self, N: Tensor, c: float) -> Tensor:
        return self.root(lambda x: self.hypergradient(x) + self.bias(x, N, c))

    def helped(self, gamma: float, lam: float) -> Tensor:
        """Where Penalty ends at fixed gamma and lambda. Only the steps on y know lambda g, so no function is descended.

        At its y the implicit formula has (A + lambda/gamma I)^-1 for A^-1; lambda = 0 is ``penalised(A^2, gamma)``.
        """
        A = self.A

        def gradient(x: Tensor) -> Tensor:
            best = self.y_star(x)
            d = -torch.linalg.solve(self.P + gamma * A @ A + lam * A, self.fy(x, best))
            return self.fx(x, best + d) - gamma * self.B.T @ A @ d

        return self.root(gradient)


def quadratic(nx: int = 3, ny: int = 4, kappa: float = 4.0, seed: int = 0) -> Quadratic:
    """An instance whose lower Hessian has eigenvalues from 1/kappa to 1 and whose hyper-Hessian is well conditioned."""
    rng = Draw(seed)
    U, _ = torch.linalg.qr(rng.normal(ny, ny))
    eigenvalues = kappa ** -torch.linspace(0, 1, ny).double()
    half = rng.normal(ny, ny) / ny**0.5
    A = U @ torch.diag(eigenvalues) @ U.T
    Q, R = rng.normal(nx, nx), rng.normal(nx, nx) / nx
    return Quadratic(
        A=A,
        B=A @ rng.normal(ny, nx) / (nx + ny) ** 0.5,
        b=A @ rng.normal(ny),
        Q=Q @ Q.T,
        P=half @ half.T + 0.5 * torch.eye(ny),
        p=rng.normal(ny),
        R=R @ R.T + 2.0 * torch.eye(nx),
        r=rng.normal(nx),
        S=0.2 * rng.normal(nx, ny),
    )
