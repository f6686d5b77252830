"""F2SA: fully first order, two lower iterates and a growing multiplier."""

from typing import NamedTuple

from torch import Tensor

from bilevelbench import Axis, Inner, Moments, Oracle, Outer, solver


class State(NamedTuple):
    x: Tensor
    y: Tensor  # follows argmin f + lambda g
    z: Tensor  # follows argmin g
    m: Moments
    m_y: Moments
    m_z: Moments


@solver("f2sa")
class F2SA(Outer, Inner):
    """F2SA. Kwon, Kwon, Wright, Nowak: "A fully first-order method for stochastic bilevel optimization", ICML 2023,
    Algorithm 1.

    lambda_k = lam (k + 1)^growth; growth 1/3 is the paper's rate for exact gradients, 0 keeps lambda fixed. The steps
    on y are those of z divided by lambda, so that y, whose objective is lambda times as steep, moves at the same pace
    (the paper: half as fast). With ``batch`` each gradient has rows of its own. The paper's rates as we know them, not
    checked against it: decay = 5/7, decay_inner = 4/7, growth = 1/7 for noise on both levels; 3/5, 2/5, 1/5 for noise
    on f alone; 1/3, 0, 1/3 without.
    """

    lr: float = 1e-2  # xi alpha: step on x
    lr_inner: float = 1e-1  # gamma: step on z; y moves by lr_inner / lambda
    T: int = 10  # inner steps on y and on z
    lam: float = 10.0  # lambda_0
    growth: float = 0.0
    decay_inner: float = 0.0  # c: gamma_k = lr_inner (k + 1)^-c
    batch: int | None = None

    space = {"lam": Axis(30.0, 10.0)}
    family = "first order"
    calls = "2*T dg_y, T df_y, df_x, 2 dg_x"
    memory = "1"
    certificate = "penalty"  # x_c with N = A, c = lambda
    certified = ("lr=0.05,lr_inner=0.5,T=10,lam=3.0", "lr=0.05,lr_inner=0.5,T=20,lam=30.0")

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        return State(x, y, y, self.moments(x), self.moments_y(y), self.moments_y(y))

    def step(self, o: Oracle, s: State) -> State:
        x, y, z, m_y, m_z = s.x, s.y, s.z, s.m_y, s.m_z
        lam = self.lam * (s.m.k + 1) ** self.growth
        lr_z = self.lr_inner * (s.m.k + 1) ** -self.decay_inner
        lr_y = lr_z / max(lam, 1.0)
        for _ in range(self.T):
            m_z, z = self.move_y(m_z, z, lr_z, o.dg_y(x, z, o.draw_g(self.batch)))
            z = o.project_y(z)
            of_f, of_g = o.draw_f(self.batch), o.draw_g(self.batch)
            m_y, y = self.move_y(m_y, y, lr_y, o.df_y(x, y, of_f) + lam * o.dg_y(x, y, of_g))
            y = o.project_y(y)
        along_g = o.dg_x(x, y, o.draw_g(self.batch)) - o.dg_x(x, z, o.draw_g(self.batch))
        m, dx = self.move(s.m, o.df_x(x, y, o.draw_f(self.batch)) + lam * along_g)
        return State(o.project_x(x - self.lr * dx), y, z, m, m_y, m_z)
