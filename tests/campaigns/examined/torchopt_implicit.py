# /// script
# requires-python = ">=3.11"
# dependencies = ["torchopt==0.7.3", "torch==2.15.0", "numpy"]
# ///
"""torchopt 0.7.3, implicit differentiation with conjugate gradients in its own settings."""

import torch
import torchopt


def hypergradient(f, g, x, y):
    """At y."""

    @torchopt.diff.implicit.custom_root(
        torch.func.grad(lambda below, above: g(above, below)), argnums=1, solve=torchopt.linear_solve.solve_cg()
    )
    def solution(begin, above):
        return begin.detach().clone()

    return torch.autograd.grad(f(x, solution(y, x)), x)[0]
