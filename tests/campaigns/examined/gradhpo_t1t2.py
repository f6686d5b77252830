# /// script
# requires-python = ">=3.11"
# dependencies = ["gradhpo==0.1.3", "torch==2.15.0", "numpy"]
# ///
"""gradhpo 0.1.3, T1-T2 with its numerical derivative."""

import optax
from gradhpo.algorithms.t1t2 import T1T2Optimizer

ARRAYS = "jax"


def hypergradient(f, g, x, y):
    """After a step from y."""
    method = T1T2Optimizer(optax.sgd(0.5), optax.sgd(0.1))
    state = method.init(y, x)
    return method.compute_hypergradient(
        state, None, None, lambda w, lam, batch: g(lam, w), lambda w, lam, batch: f(lam, w)
    )
