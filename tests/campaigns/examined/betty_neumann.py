# /// script
# requires-python = ">=3.11"
# dependencies = ["betty-ml==0.2.1", "torch==2.15.0", "numpy"]
# ///
"""betty-ml 0.2.1, Neumann series, 400 steps."""

from types import SimpleNamespace

import torch
from betty.configs import Config
from betty.hypergradient.neumann import neumann


def hypergradient(f, g, x, y):
    """At y."""
    below = SimpleNamespace(
        paths=[], config=Config(type="neumann", neumann_iterations=400, neumann_alpha=0.9), cur_batch=None,
        training_step_exec=lambda batch: g(x, y), trainable_parameters=lambda: [y], parameters=lambda: [y],
    )  # fmt: skip
    above = SimpleNamespace(trainable_parameters=lambda: [x])
    direct, slope = torch.autograd.grad(f(x, y), (x, y))
    return direct + neumann([slope], below, above, sync=False)[0]
