# /// script
# requires-python = ">=3.11"
# dependencies = ["betty-ml==0.2.1", "torch==2.15.0", "numpy"]
# ///
"""betty-ml 0.2.1, conjugate gradients, ten steps."""

from types import SimpleNamespace

import torch
from betty.configs import Config
from betty.hypergradient.cg import cg


def hypergradient(f, g, x, y):
    """At y."""
    below = SimpleNamespace(
        paths=[], config=Config(type="cg", cg_iterations=10, cg_alpha=1.0), cur_batch=None,
        training_step_exec=lambda batch: g(x, y), trainable_parameters=lambda: [y], parameters=lambda: [y],
    )  # fmt: skip
    above = SimpleNamespace(trainable_parameters=lambda: [x])
    direct, slope = torch.autograd.grad(f(x, y), (x, y))
    return direct + cg([slope], below, above, sync=False)[0]
