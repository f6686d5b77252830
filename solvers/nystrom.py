"""The Nyström method for the implicit hypergradient: the lower Hessian by a few of its columns."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    S: Tensor  # the chosen columns, min(K, n_y) distinct indices
    m: Moments
    m_y: Moments


@solver("nystrom")
class Nystrom(Outer, Inner):
    """Nyström hypergradient. Hataya, Yamada: "Nyström method for accurate and scalable implicit differentiation",
    AISTATS 2023.

    H is replaced by C W^-1 C', C its K columns of random indices S and W the rows S of C. Then
    q = (C W^-1 C' + rho I)^-1 df/dy, by Woodbury's identity df/dy / rho - C (W + C'C / rho)^-1 C'df/dy / rho^2. Outside
    of what the columns span q is df/dy / rho, so a small rho with K below the rank of H does harm.

    The columns are products with unit vectors, all n_y of them where K is more; then q = (H + rho I)^-1 df/dy.
    Woodbury's matrix is singular where H is, the right hand side within its range: as much as rounding is added to its
    diagonal. ``fresh`` draws S anew in every step, as the authors' code does, and x keeps wandering; else the first S
    stays.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    T: int = 10  # inner steps
    K: int = 10  # k: columns
    rho: float = 0.1
    fresh: bool = True

    at_least = {"rho": 1e-12}

    family = "implicit"
    order = 2
    calls = "T dg_y, df, min(K,n_y) d2g_yy, d2g_xy"
    memory = "K"
    certified = (
        "lr_inner=1.0,T=3,K=2,rho=0.5",
        "lr=0.1,lr_inner=1.0,T=5,K=2,rho=0.5,fresh=False",
        "lr=0.1,lr_inner=1.0,T=5,K=6,rho=0.1,fresh=False",
    )

    @property
    def certificate(self) -> str:
        return "columns_mean" if self.fresh else "columns"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, self._columns(o, y), self.moments(x), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_y = s.x, s.y, s.m_y
        for _ in range(self.T):
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y))
            y = o.project_y(y)
        S = self._columns(o, y) if self.fresh else s.S
        fx, fy = o.df(x, y)
        here = o.at(x, y)
        unit = torch.zeros_like(y)
        C = torch.stack([here.d2g_yy(unit.index_fill(0, j, 1.0)) for j in S], 1)
        small = C[S] + C.T @ C / self.rho
        kind = torch.finfo(small.dtype)
        small = small + (kind.eps * small.diagonal().abs().max() + kind.tiny) * torch.eye(len(S)).to(small)
        q = fy / self.rho - C @ torch.linalg.solve_ex(small, C.T @ fy).result / self.rho**2  # NaN, no error, from NaN
        m, dx = self.move(s.m, fx - here.d2g_xy(q))
        return State(o.project_x(x - self.lr * dx), y, S, m, m_y)

    def _columns(self, o: Oracle, y: Tensor) -> Tensor:
        """K distinct indices, uniformly: the first of a shuffle (Fisher, Yates), of which only what moved is kept."""
        chosen, moved = [], dict[int, int]()
        for i in range(min(self.K, len(y))):
            j = i + o.integer(len(y) - i)
            chosen.append(moved.get(j, j))
            moved[j] = moved.get(i, i)
        return torch.tensor(chosen, device=y.device)
