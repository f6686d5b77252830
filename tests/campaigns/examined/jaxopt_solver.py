# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxopt==0.8.5", "jax==0.10.2", "torch==2.15.0", "numpy"]
# ///
"""jaxopt 0.8.5, its gradient descent as it comes, which solves the lower level and differentiates implicitly."""

import jax
import jaxopt

ARRAYS = "jax"


def hypergradient(f, g, x, y):
    """From y."""
    solver = jaxopt.GradientDescent(lambda below, above: g(above, below))
    return jax.grad(lambda above: f(above, solver.run(y, above).params))(x)
