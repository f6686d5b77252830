# /// script
# requires-python = ">=3.11"
# dependencies = ["hypergrad==0.0.1", "torch==2.15.0", "numpy"]
# ///
"""hypergrad 0.0.1, 20 steps of its differentiable SGD with momentum, unrolled."""

import torch
from hypergrad.optimizers import diff_sgd


def hypergradient(f, g, x, y):
    """From y."""
    below, state = [y], None
    for _ in range(20):
        slopes = torch.autograd.grad(g(x, below[0]), below, create_graph=True)
        below, state = diff_sgd(below, list(slopes), state, weight_decay=0.0, momentum=0.5, lr=0.5)
    return torch.autograd.grad(f(x, below[0]), x)[0]
