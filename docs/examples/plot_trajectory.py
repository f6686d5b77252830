"""
Paths over level sets
=====================

The coreset toy of the BOME paper: four points, whose weights are softmax(x), and a target that is none of their means.
The infimum lies at infinity in x and on an edge of the hull in y.
"""

import tempfile

import bilevelbench as bb

results = bb.run(
    "coreset",
    ["bome(lr=0.71,lr_inner=0.5,T=1)", "itd(lr=2.84,lr_inner=0.5,T=1)", "first_order(lr=0.355,lr_inner=0.5,T=5)"],
    steps=150,
    iterates=True,
    out=tempfile.mkdtemp(),
    progress=False,
)
figure = results.figure("trajectory", "coreset")

# %%
# ``first_order`` follows df/dx alone, and f does not depend on x here but through y: it never moves. The others reach
# the edge.

print(results.looks.groupby("solver", observed=True)[["phi_gap", "gap"]].last().to_string())
