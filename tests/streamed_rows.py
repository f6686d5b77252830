"""A regression on rows that no memory holds: each is made when it is asked for."""

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import Dataset

from bilevelbench import from_modules, problem


class Rows(Dataset):
    """So many rows of so many columns; the target goes with the first two."""

    def __init__(self, size, width):
        self.size, self.width = size, width

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        a = torch.randn(self.width, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        return {"a": a, "t": a[:1] - 2 * a[1:2]}


class Scale(nn.Module):
    """A penalty on the weights, with one parameter above."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(1))

    def forward(self, weight):
        return self.log.exp() * weight.square().sum()


@problem("streamed_rows")
def streamed_rows(rng, rows: int = 10**7, width: int = 3):
    """A regression on rows that no memory holds."""
    torch.manual_seed(rng.seed)
    exact = torch.zeros(width, dtype=torch.float64)
    exact[:2] = torch.tensor([1.0, -2.0])
    return from_modules(
        rng, Scale(), nn.Linear(width, 1, bias=False), Rows(rows, width), Rows(rows, width),
        upper_loss=lambda upper, lower, batch: mse_loss(lower(batch["a"]), batch["t"]),
        lower_loss=lambda upper, lower, batch: (
            mse_loss(lower(batch["a"]), batch["t"]) + 1e-3 * upper(lower.parameters["weight"])
        ),
        metrics=lambda upper, lower: {"error": float((lower.parameters["weight"][0] - exact).norm())},
        better={"error": "lower"}, in_memory=False, rows_per_step=16,
    )  # fmt: skip
