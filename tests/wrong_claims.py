"""Solvers that keep the contract and say something false of themselves, for ``bilevelbench check`` to find."""

import torch

from bilevelbench import Oracle, Point, solver


def alternate(o, s, T, lr=0.1):
    """T steps on y and one along df/dx."""
    x, y = s
    for _ in range(T):
        y = o.project_y(y - 0.5 * o.dg_y(x, y))
    return Point(o.project_x(x - lr * o.df_x(x, y)), y)


@solver("wrong_limit")
class WrongLimit:
    """Ends at W(0) and claims x*."""

    certificate = "exact"

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 3)


@solver("wrong_term_count")
class WrongTermCount:
    """A Neumann series with one term too many, the difference between two libraries."""

    lr: float = 0.1
    lr_inner: float = 1.0
    K: int = 3
    order = 2
    certificate = "neumann"

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        for _ in range(5):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        fx, fy = o.df(x, y)
        q = fy
        for _ in range(self.K):
            q = q - self.lr_inner * o.d2g_yy(x, y, q) + fy
        return Point(o.project_x(x - self.lr * (fx - self.lr_inner * o.d2g_xy(x, y, q))), y)


@solver("wrong_calls")
class WrongCalls:
    """Asks three times where it declares one."""

    calls = "dg_y, df_x"

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 3)


@solver("wrong_memory")
class WrongMemory:
    """Keeps its path and declares that it does not."""

    T: int = 3
    calls = "T dg_y, df_x"
    memory = "1"

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        path = [y]
        for _ in range(self.T):
            path.append(o.project_y(path[-1] - 0.5 * o.dg_y(x, path[-1])))
        return Point(o.project_x(x - 0.1 * o.df_x(x, path[-1])), path[-1])


@solver("unknown_claim")
class UnknownClaim:
    """Claims what nobody knows."""

    certificate = "best"

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 1)


@solver("unknown_kind")
class UnknownKind:
    """Declares a call that there is not."""

    calls = "dg_z"

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 1)


@solver("one_minibatch_twice")
class OneMinibatchTwice:
    """Two factors of a product from one minibatch, and says nothing of it."""

    batch: int | None = None
    order = 2

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        rows = o.draw_g(self.batch)
        fx, q = o.df(x, y)
        for _ in range(2):
            q = q - 0.5 * o.d2g_yy(x, y, q, rows)
        return Point(o.project_x(x - 0.1 * (fx - o.d2g_xy(x, y, q))), o.project_y(y - 0.5 * o.dg_y(x, y)))


@solver("one_minibatch_twice_and_says_so")
class OneMinibatchTwiceAndSaysSo(OneMinibatchTwice):
    """The same, declared."""

    biased = "two factors share a minibatch"


@solver("unbiased_and_denies_it")
class UnbiasedAndDeniesIt:
    """One minibatch, used once."""

    batch: int | None = None
    biased = "so it says"

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        rows = o.draw_g(self.batch)
        return Point(o.project_x(x - 0.1 * o.df_x(x, y)), o.project_y(y - 0.5 * o.dg_y(x, y, rows)))


@solver("wrong_order")
class WrongOrder:
    """Asks for second derivatives and says that it does not."""

    order = 1

    def step(self, o: Oracle, s: Point) -> Point:
        fx, fy = o.df(s.x, s.y)
        return alternate(o, Point(o.project_x(s.x - 0.1 * (fx - o.d2g_xy(s.x, s.y, fy))), s.y), 1)


@solver("too_high_an_order")
class TooHighAnOrder:
    """Says that it asks for second derivatives, and does not."""

    order = 2

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 1)


HISTORY = []


@solver("keeps_history")
class KeepsHistory:
    """Keeps every iterate, where no state shows it."""

    memory = "1"

    def step(self, o: Oracle, s: Point) -> Point:
        new = alternate(o, s, 1)
        HISTORY.append(new.y)
        return new


@solver("square_memory")
class SquareMemory:
    """Holds a matrix of the size of the Hessian."""

    memory = "1"

    def step(self, o: Oracle, s: Point) -> Point:
        d = o.dg_y(s.x, s.y)
        matrix = torch.outer(d, d)
        return Point(o.project_x(s.x - 0.1 * o.df_x(s.x, s.y)), o.project_y(s.y - 0.5 * d + 0 * matrix.sum()))


@solver("says_nothing")
class SaysNothing:
    """Declares nothing."""

    def step(self, o: Oracle, s: Point) -> Point:
        return alternate(o, s, 3)
