"""The solver of the tutorials."""

from bilevelbench import Oracle, Point, solver


@solver("alternating")
class Alternating:
    """Descent on g in y, then on f in x. Not a bilevel method: the implicit part of the gradient is missing."""

    lr: float = 1e-2  # step on x
    lr_inner: float = 5e-1  # step on y
    T: int = 10  # steps on y for each step on x

    order = 1
    calls = "T dg_y, df_x"
    memory = "1"

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return Point(o.project_x(x - self.lr * o.df_x(x, y)), y)
