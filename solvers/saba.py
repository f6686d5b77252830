"""SABA: SOBA with a table of what minibatches answered last."""

from typing import NamedTuple

import torch
from torch import Tensor

from bilevelbench import Axis, Moments, Oracle, Outer, solver

Answers = tuple[Tensor, ...]


class Table(NamedTuple):
    blocks: tuple[Answers, ...]  # for each block of rows, what it answered when it was last drawn
    mean: Answers  # over all rows


class State(NamedTuple):
    x: Tensor
    y: Tensor
    v: Tensor  # the linear variable, tends to -H^-1 df/dy
    of_f: Table  # df/dx, df/dy
    of_g: Table  # C v, H v, dg/dy
    m: Moments


@solver("saba")
class SABA(Outer):
    """SABA. Dagréou, Ablin, Vaiter, Moreau: "A framework for bilevel optimization that enables stochastic and global
    variance reduction algorithms", NeurIPS 2022: Algorithm 1 with SAGA's estimates in all directions.

    SOBA, each of its five quantities replaced by (new - remembered) + mean of the remembered, which is unbiased
    whatever is remembered. The paper remembers row by row; with ``batch`` we remember block by block, as the authors'
    code does: rows in their order, ``batch`` to a block. A row of f and a row of g are drawn and each stands for its
    block, so a last block with fewer rows is drawn more seldom. The table starts with one pass at (x0, y0, 0).
    Without ``batch`` all rows are one block, and this is SOBA.
    """

    lr: float = 1e-2  # gamma: step on x
    lr_inner: float = 1e-1  # rho: step on y and on v
    batch: int | None = None

    space = {"lr_inner": Axis(1.0, curvature=1)}
    family = "implicit"
    order = 2
    calls = "dg_y, df, d2g"
    memory = "3*n/(batch or n)"  # and 2 n/batch copies of x
    certificate = "exact"
    certified = ("lr=0.05,lr_inner=0.5",)

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.batch is None else ("minibatches",)

    def init(self, o: Oracle, x: Tensor, y: Tensor) -> State:
        nothing, v = torch.zeros_like(x), torch.zeros_like(y)
        of_f = Table(((nothing, v),) * len(self._firsts(o.n_f)), (nothing, v))
        of_g = Table(((nothing, v, v),) * len(self._firsts(o.n_g)), (nothing, v, v))
        for row in self._firsts(o.n_f):
            _, of_f = self._ask_f(o, x, y, of_f, row)
        for row in self._firsts(o.n_g):
            _, of_g = self._ask_g(o, x, y, v, of_g, row)
        return State(x, y, v, of_f, of_g, self.moments(x))

    def step(self, o: Oracle, s: State) -> State:
        x, y, v = s.x, s.y, s.v
        i, j = (0, 0) if self.batch is None else (int(o.draw_f(1)), int(o.draw_g(1)))
        (fx, fy), of_f = self._ask_f(o, x, y, s.of_f, i)
        (cross, hessian, gy), of_g = self._ask_g(o, x, y, v, s.of_g, j)
        rho = self.lr_inner * self.pace(s.m)
        m, dx = self.move(s.m, fx + cross)
        return State(o.project_x(x - self.lr * dx), o.project_y(y - rho * gy), v - rho * (hessian + fy), of_f, of_g, m)

    def _firsts(self, n: int) -> range:
        """The first row of each block."""
        return range(0, n, self.batch or n)

    def _ask_f(self, o: Oracle, x: Tensor, y: Tensor, table: Table, row: int) -> tuple[Answers, Table]:
        rows, share = self._block(o.n_f, row, x.device)
        return _saga(table, row // (self.batch or o.n_f), share, o.df(x, y, rows))

    def _ask_g(self, o: Oracle, x: Tensor, y: Tensor, v: Tensor, table: Table, row: int) -> tuple[Answers, Table]:
        rows, share = self._block(o.n_g, row, x.device)
        here = o.at(x, y)
        return _saga(table, row // (self.batch or o.n_g), share, (*here.d2g(v, rows), here.dg_y(rows)))

    def _block(self, n: int, row: int, device: torch.device) -> tuple[Tensor | None, float]:
        """The rows of the block that a row is in, None where it is all rows, and their share of all rows."""
        if self.batch is None:
            return None, 1.0
        first = row - row % self.batch
        rows = torch.arange(first, min(first + self.batch, n), device=device)
        return rows, len(rows) / n


def _saga(table: Table, block: int, share: float, new: Answers) -> tuple[Answers, Table]:
    """SAGA's estimates from what a block answers now, and the table that remembers it."""
    change = [a - b for a, b in zip(new, table.blocks[block], strict=True)]
    mean = tuple(m + share * c for m, c in zip(table.mean, change, strict=True))
    blocks = (*table.blocks[:block], new, *table.blocks[block + 1 :])
    return tuple(c + m for c, m in zip(change, table.mean, strict=True)), Table(blocks, mean)
