# /// script
# requires-python = ">=3.11"
# dependencies = ["pylopt==1.0.0", "torch==2.15.0", "numpy"]
# ///
"""pylopt 1.0.0, its conjugate gradients in their own settings for the linear system of implicit differentiation.

Its own implicit differentiation cannot be imported without a CUDA compiler.
"""

import torch
from pylopt.solver import CGSolver


def hypergradient(f, g, x, y):
    """At y."""
    direct, slope = torch.autograd.grad(f(x, y), (x, y))
    (below,) = torch.autograd.grad(g(x, y), y, create_graph=True)

    def product(v):
        return torch.autograd.grad(below, y, v, retain_graph=True)[0]

    found = CGSolver().solve(product, slope)
    multiplier = found.stats.iterate_list[-1] if found.solution is None else found.solution
    return direct - torch.autograd.grad(below, x, multiplier)[0]
