# /// script
# requires-python = ">=3.11"
# dependencies = ["pylopt==1.0.0", "torch==2.15.0", "numpy"]
# ///
"""pylopt 1.0.0, implicit differentiation with conjugate gradients in its own settings."""

import torch
from pylopt.bilevel_problem.gradients import ImplicitAutogradFunction, compute_hvp_mixed
from pylopt.solver import CGSolver


class Energy(torch.nn.Module):
    """g(x, .) with x as the parameter."""

    def __init__(self, g, x):
        super().__init__()
        self.g, self.x = g, torch.nn.Parameter(x.detach().clone())

    def forward(self, y):
        return self.g(self.x, y)


def hypergradient(f, g, x, y):
    """At y."""
    energy = Energy(g, x)
    multiplier = ImplicitAutogradFunction.compute_lagrange_multiplier(
        lambda u: f(x.detach(), u), energy, y.detach(), CGSolver()
    )
    return torch.autograd.grad(f(x, y.detach()), x)[0] + compute_hvp_mixed(energy, y.detach(), multiplier)[0]
