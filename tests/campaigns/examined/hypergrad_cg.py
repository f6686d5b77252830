# /// script
# requires-python = ">=3.11"
# dependencies = ["hypergrad==0.0.1", "torch==2.15.0", "numpy"]
# ///
"""hypergrad 0.0.1, conjugate gradients, ten steps."""

from hypergrad.approx_hypergrad import conjugate_gradient


def hypergradient(f, g, x, y):
    """At y, in ten steps."""
    below, above = (lambda ys, xs, h=h: h(xs[0], ys[0]) for h in (g, f))
    return conjugate_gradient(below, above, (y.detach(),), (x.detach(),), 10, 1.0)
