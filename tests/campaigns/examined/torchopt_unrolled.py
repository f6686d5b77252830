# /// script
# requires-python = ">=3.11"
# dependencies = ["torchopt==0.7.3", "torch==2.15.0", "numpy"]
# ///
"""torchopt 0.7.3, 400 steps of its functional SGD, unrolled."""

import torch
import torchopt


def hypergradient(f, g, x, y):
    """From y."""
    descent, below = torchopt.sgd(lr=0.9), (y,)
    state = descent.init(below)
    for _ in range(400):
        slopes = torch.autograd.grad(g(x, below[0]), below, create_graph=True)
        updates, state = descent.update(slopes, state, inplace=False)
        below = torchopt.apply_updates(below, updates, inplace=False)
    return torch.autograd.grad(f(x, below[0]), x)[0]
