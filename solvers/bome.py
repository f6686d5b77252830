"""BOME: dynamic barrier on the value function, first order only."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor
    z: Tensor | None  # theta^(T), kept where the inner iterate is persistent
    m: Moments
    m_z: Moments
    lam: Tensor  # lambda of the last step


@solver("bome")
class BOME(Outer, Inner):
    """BOME. Liu, Ye, Wright, Stone, Liu: "BOME! Bilevel Optimization Made Easy", NeurIPS 2022, Algorithm 1.

    Moves (x, y) along d = grad f + lambda grad q, the vector nearest to grad f with <d, grad q> >= phi, where
    q = g(x, y) - g(x, z) and z is T steps on g from y. lambda = 0 where grad q = 0. Additions: ``lr_y``, and ``eps``
    in lambda's denominator as in the authors' code (for "norm" it leaves eta unshrunk); ``persistent`` starts z at the
    last z instead of y, an ablation that is not in the paper and takes the truncation bias of T away. With ``batch``
    every inner step draws rows of g; one minibatch of f and one of g stand for all that lambda and d are made of, so
    that q is the gap of one function; where lambda is not 0 the step is biased, for lambda is a ratio of these.
    """

    lr: float = 1e-2  # xi: step on x, and on y unless lr_y is given
    lr_y: float | None = None  # step on y
    lr_inner: float = 1e-1  # alpha: step of the inner loop
    T: int = 10  # inner steps
    eta: float = 0.5  # phi = eta |grad q|^2 ("norm") or eta q ("gap")
    phi: Literal["norm", "gap"] = "norm"
    eps: float = 0.0
    persistent: bool = False
    batch: int | None = None

    space = {"lr_y": Axis(1.0, curvature=1, unset=True)}
    family = "first order"
    calls = "T dg_y, dg, dg_x, df, 2*(phi=='gap') g"
    memory = "1"
    certified = ("lr_inner=1.0,T=1", "lr_inner=1.0,T=3,phi='gap'", "lr_inner=1.0,T=1,persistent=True")

    @property
    def certificate(self) -> str:
        return "exact_floor" if self.persistent else "truncated"

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        zero = torch.zeros_like(x[0])
        return State(x, y, y if self.persistent else None, self.moments(x, y), self.moments_y(y), zero)

    def figures(self, s: State) -> dict[str, float]:
        """How much of grad q is in the direction."""
        return {"lambda": float(s.lam)}

    def step(self, o: Oracle, s: State) -> State:
        x, y, m_z = s.x, s.y, s.m_z
        z = y if s.z is None else s.z
        for _ in range(self.T):  # z ~ argmin g(x, .)
            m_z, z = self.move_y(m_z, z, self.lr_inner, o.dg_y(x, z, o.draw_g(self.batch) if self.batch else None))
            z = o.project_y(z)
        of_f, of_g = (o.draw_f(self.batch), o.draw_g(self.batch)) if self.batch else (None, None)
        fx, fy = o.df(x, y, of_f)
        gx, qy = o.dg(x, y, of_g)
        qx = gx - o.dg_x(x, z, of_g)  # q = g(x, y) - g(x, z), z held fixed
        gap = o.g(x, y, of_g) - o.g(x, z, of_g) if self.phi == "gap" else None
        kept = z if self.persistent else None
        del z  # a step on a large network holds five vectors of y's length, with this and the next one
        square = qx @ qx + qy @ qy
        dot = fx @ qx + fy @ qy
        if gap is None:
            lam = torch.relu(self.eta - _ratio(dot, square + self.eps))
        else:
            lam = torch.relu(_ratio(self.eta * gap - dot, square + self.eps))
        m, dx, dy = self.move(s.m, fx + lam * qx, fy + lam * qy)
        del fy, qy
        lr_y = self.lr if self.lr_y is None else self.lr_y
        y = o.project_y(y - lr_y * dy)
        return State(o.project_x(x - self.lr * dx), y, kept, m, m_z, lam)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 at b = 0: there grad q vanishes and lambda does not matter."""
    return torch.where(b == 0, 0.0, a / b)
