"""AID with conjugate gradients: the implicit hypergradient."""

import torch

from bilevelbench import Oracle, Point, solver


@solver("aid_cg")
class AIDCG:
    """Approximate implicit differentiation, linear system by conjugate gradients. Pedregosa, ICML 2016; Grazzi,
    Franceschi, Pontil, Salzo, ICML 2020; Rajeswaran, Finn, Kakade, Levine, NeurIPS 2019 (iMAML).

    T warm steps on y, K iterations from zero on H q = df/dy, then x moves along df/dx - C q. Always K iterations, so
    that the counts are fixed; once the residual has vanished they change nothing. There is no safeguard against a
    singular or indefinite H beyond ``damping``.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    T: int = 10  # inner steps
    K: int = 10  # iterations of conjugate gradients
    damping: float = 0.0  # H + damping I

    order = 2
    certificate = "exact"

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        fx, r = o.df(x, y)
        q, p, rr = torch.zeros_like(r), r, r @ r
        tiny = torch.finfo(r.dtype).tiny  # a solved system: below it, rr and p'Hp underflow apart
        for _ in range(self.K):
            Hp = o.d2g_yy(x, y, p) + self.damping * p
            a = torch.where(rr < tiny, 0.0, rr / (p @ Hp))
            q, r = q + a * p, r - a * Hp
            rr, old = r @ r, rr
            p = r + torch.where(old < tiny, 0.0, rr / old) * p
        return Point(o.project_x(x - self.lr * (fx - o.d2g_xy(x, y, q))), y)
