# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxopt==0.8.5", "jax==0.10.2", "torch==2.15.0", "numpy"]
# ///
"""jaxopt 0.8.5, implicit differentiation at a given solution, with its own linear solver."""

import jax
from jaxopt.implicit_diff import custom_root

ARRAYS = "jax"


def hypergradient(f, g, x, y):
    """At y."""

    @custom_root(jax.grad(lambda below, above: g(above, below)))
    def solution(begin, above):
        return begin

    return jax.grad(lambda above: f(above, solution(y, above)))(x)
