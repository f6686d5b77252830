# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxopt==0.8.5", "jax==0.10.2", "torch==2.15.0", "numpy"]
# ///
"""jaxopt 0.8.5, 400 steps of its gradient descent, unrolled."""

import jax
import jaxopt

ARRAYS = "jax"


def hypergradient(f, g, x, y):
    """From y."""
    solver = jaxopt.GradientDescent(
        lambda below, above: g(above, below), maxiter=400, tol=0.0, stepsize=0.9, acceleration=False,
        implicit_diff=False,
    )  # fmt: skip
    return jax.grad(lambda above: f(above, solver.run(y, above).params))(x)
