"""AID with a truncated Neumann series."""

from bilevelbench import Oracle, Point, solver


@solver("aid_neumann")
class AIDNeumann:
    """Approximate implicit differentiation by a Neumann series. Lorraine, Vicol, Duvenaud, AISTATS 2020, Algorithm 3;
    the fixed-point variant of Grazzi, Franceschi, Pontil, Salzo, ICML 2020.

    q = eta sum_{j<K} (I - eta H)^j df/dy: K terms, hence K - 1 Hessian products (libraries differ by one here).
    The bias -A^-1 (I - eta A)^K df/dy stays however long it runs.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    lr_linear: float | None = None  # eta: step of the series; lr_inner unless given
    T: int = 10  # inner steps
    K: int = 10  # terms of the series

    order = 2
    certificate = "neumann"  # W(A^-1 (I - (I - eta A)^K))

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        fx, term = o.df(x, y)
        eta = self.lr_inner if self.lr_linear is None else self.lr_linear
        total = term
        for _ in range(self.K - 1):
            term = term - eta * o.d2g_yy(x, y, term)
            total = total + term
        return Point(o.project_x(x - self.lr * (fx - o.d2g_xy(x, y, eta * total))), y)
