"""F2SA-2: fully first order, by a central difference in the weight of f."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor  # follows argmin g + nu f
    z: Tensor  # follows argmin g - nu f
    m: Moments
    m_y: Moments
    m_z: Moments


@solver("f2sa_2")
class F2SA2(Outer, Inner):
    """F2SA-p with p = 2. Chen, Li, Chayti, Zhang: "Faster gradient methods for highly-smooth stochastic bilevel
    optimization", 2025 (arXiv 2509.02937), Algorithm 1.

    The hypergradient is the derivative at nu = 0 of the gradient of l_nu(x) = min_y g + nu f, taken here as
    (grad l_nu - grad l_-nu) / (2 nu): an error of O(nu^2) where F2SA, the forward difference, has O(nu), at the same
    number of lower problems. nu = 1/lam, and it has to be small enough for g - nu f to be convex. Plain steps on x
    where the paper normalises them to analyse the lower loops. With ``batch`` every gradient of the lower loops has
    rows of its own; both sides of the difference on x share theirs.
    """

    lr: float = 1e-2  # eta_x: step on x
    lr_inner: float = 1e-1  # eta_y: step on both lower iterates
    T: int = 10  # K: inner steps on each of them
    lam: float = 100.0  # 1/nu
    batch: int | None = None

    at_least = {"lam": 1e-12}

    space = {"lam": Axis(100.0, 10.0)}
    family = "first order"
    calls = "2*T dg_y, 2*T df_y, 2 df_x, 2 dg_x"
    memory = "1"
    certificate = "penalty2"  # root of the central difference
    certified = ("lr=0.1,lr_inner=0.9,T=10,lam=200.0", "lr=0.05,lr_inner=0.5,T=20,lam=1000.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x), self.moments_y(y), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z, m_y, m_z, nu = s.x, s.y, s.z, s.m_y, s.m_z, 1.0 / self.lam
        for _ in range(self.T):
            of_f, of_g = (o.draw_f(self.batch), o.draw_g(self.batch)) if self.batch else (None, None)
            m_y, y = self.move_y(m_y, y, self.lr_inner, o.dg_y(x, y, of_g) + nu * o.df_y(x, y, of_f))
            y = o.project_y(y)
            of_f, of_g = (o.draw_f(self.batch), o.draw_g(self.batch)) if self.batch else (None, None)
            m_z, z = self.move_y(m_z, z, self.lr_inner, o.dg_y(x, z, of_g) - nu * o.df_y(x, z, of_f))
            z = o.project_y(z)
        of_f, of_g = (o.draw_f(self.batch), o.draw_g(self.batch)) if self.batch else (None, None)
        along_g = o.dg_x(x, y, of_g) - o.dg_x(x, z, of_g)
        direction = 0.5 * (o.df_x(x, y, of_f) + o.df_x(x, z, of_f)) + 0.5 * self.lam * along_g
        m, dx = self.move(s.m, direction)
        return State(o.project_x(x - self.lr * dx), y, z, m, m_y, m_z)
