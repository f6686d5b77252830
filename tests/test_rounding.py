"""What the contract takes for the same: equal but for rounding."""

import numpy as np
import pytest
import torch

from bilevelbench import Draw
from bilevelbench.contract.rounding import same

X = torch.tensor([3.0, -1e-3, 0.0]).double()


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (X.clone(), True),
        (X * (1 + 1e-15), True),
        (X * (1 + 1e-8), False),
        (X + torch.tensor([0.0, 1e-8, 0.0]).double(), False),
        (X[:2], False),
        (X.float(), False),
        (X * torch.nan, False),
    ],
)
def test_tensors_are_the_same_but_for_rounding(other, holds):
    assert same(other, X) == holds


def test_what_is_no_fraction_is_equal_or_it_is_not():
    assert same((X, 3, 0.1 + 0.2, torch.tensor([1, 2]), "a"), (X, 3, 0.3, torch.tensor([1, 2]), "a"))
    for one, other in ((3, 4), (0.3, 0.3 + 1e-9), ("a", "b"), (torch.tensor(1), torch.tensor(2))):
        assert not same(one, other)
    assert same(torch.tensor([torch.inf, 1.0]), torch.tensor([torch.inf, 1.0]))


def moved(tensor, by):
    """A copy that begins ``by`` bytes after a multiple of 64."""
    buffer = np.empty(tensor.numel() * 8 + 128, np.uint8)
    first = -buffer.ctypes.data % 64 + by
    copy = torch.from_numpy(buffer[first : first + tensor.numel() * 8].view(np.float64)).view(tensor.shape)
    return copy.copy_(tensor)


@pytest.mark.parametrize("size", [3, 20, 100])
def test_products_of_data_that_lie_elsewhere_are_the_same(size):
    A, x = Draw(0).normal(size, size), Draw(1).normal(size)
    found = [moved(A, by) @ moved(x, then) for by in (0, 8, 16) for then in (0, 8, 16)]
    assert all(same(one, found[0]) for one in found)
