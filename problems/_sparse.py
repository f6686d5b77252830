"""Products of a constant sparse matrix with a dense one, differentiable any number of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import embedding_bag

from bilevelbench import Draw


@dataclass(frozen=True)
class Rows:
    """Compressed rows: row i holds ``values`` at ``indices`` from ``offsets[i]`` to ``offsets[i + 1]``.

    Ordinary tensors, not torch's sparse ones: those are not seen by the count of live bytes, have no minibatches of
    rows, and are slower in float32.
    """

    offsets: Tensor
    indices: Tensor
    values: Tensor
    columns: int

    @classmethod
    def put(cls, rng: Draw, matrix: csr_matrix) -> Rows:
        """A matrix on the run's device and in its dtype."""
        places = (torch.from_numpy(part).long() for part in (matrix.indptr, matrix.indices))
        offsets, indices, values = rng.put(*places, matrix.data)
        return cls(offsets, indices, values, matrix.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Tensor) -> Rows:
        """Some rows, in the order given."""
        sizes = self.offsets.diff()[rows]
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        shift = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], sizes)
        entries = shift + torch.arange(len(shift), device=shift.device)
        return Rows(offsets, self.indices[entries], self.values[entries], self.columns)

    @property
    def T(self) -> Rows:
        """The transposed matrix."""
        order = torch.argsort(self.indices, stable=True)
        rows = torch.repeat_interleave(torch.arange(len(self), device=order.device), self.offsets.diff())
        sizes = torch.bincount(self.indices, minlength=self.columns)
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return Rows(offsets, rows[order], self.values[order], len(self))

    def times(self, dense: Tensor) -> Tensor:
        """The product with a dense matrix (columns, k), without derivatives."""
        return embedding_bag(
            self.indices, dense, self.offsets, mode="sum", per_sample_weights=self.values.to(dense),
            include_last_offset=True,
        )  # fmt: skip


class _Product(torch.autograd.Function):
    """S W; the derivative in W is the product with S', again one of these."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, rows: Rows, transposed: Rows) -> Tensor:
        ctx.matrices = transposed, rows
        return rows.times(dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(gradient, *ctx.matrices), None, None


def product(rows: Rows, transposed: Rows, dense: Tensor) -> Tensor:
    """``rows`` times a dense matrix (columns, k); ``transposed`` is ``rows.T``, made once."""
    return _Product.apply(dense, rows, transposed)
