"""Alternating descent: the control that ignores the lower level's answer to x."""

from bilevelbench import Oracle, Point, solver


@solver("first_order")
class FirstOrder:
    """Alternating descent, the control: T steps on g in y, then one on f in x along df/dx alone.

    Not a bilevel solver: the implicit part of the hypergradient is missing, so it ends where df/dx(x, y*(x)) = 0, and
    does not move at all where f does not depend on x. Known as first-order MAML or DARTS (Liu, Simonyan, Yang,
    ICLR 2019, section 2.3 with xi = 0) and as "GD" in Mehra and Hamm, ACML 2021.
    """

    lr: float = 1e-2  # beta: step on x
    lr_inner: float = 1e-1  # alpha: step on y
    T: int = 10  # inner steps

    order = 1
    certificate = "direct"  # df/dx(x, y*(x)) = 0

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return Point(o.project_x(x - self.lr * o.df_x(x, y)), y)
