"""The lower level alone: the control that leaves x where it starts."""

from bilevelbench import Oracle, Point, solver


@solver("lower_only")
class LowerOnly:
    """Plain training, the control: T steps on g in y, x stays at x0 and f is never asked.

    What a bilevel solver gains over it is what moving x gains: in hyper-cleaning it trains on the noisy data.
    """

    lr_inner: float = 1e-1  # step on y
    T: int = 10  # steps on y

    family = "control"
    calls = "T dg_y"
    memory = "1"
    certificate = "still"
    certified = ("lr_inner=1.0,T=5",)

    def step(self, o: Oracle, s: Point) -> Point:
        y = s.y
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(s.x, y))
        return Point(s.x, y)
