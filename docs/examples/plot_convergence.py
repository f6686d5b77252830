"""
Solvers on one problem, against calls
=====================================

Three methods on a quadratic whose lower level has the condition number 10: one that unrolls, one that solves the linear
system, and one of first order. They have the same instances and the same budget of calls.
"""

import tempfile

import bilevelbench as bb

results = bb.run(
    "quadratic(kappa=10)",
    ["itd(lr=0.135,lr_inner=1.0,T=5)", "aid_cg(lr=0.0676,lr_inner=1.0,T=5,K=10)", "bome(lr=0.135,lr_inner=1.0,T=1)"],
    seeds=range(3),
    calls=2000,
    out=tempfile.mkdtemp(),
    progress=False,
)
figure = results.figure("convergence", y="phi_gap", x="calls")

# %%
# ITD stalls: with T steps it solves another problem, whose distance shrinks with T. AID goes on to rounding, and BOME
# to a floor that is proportional to its step.
#
# The same against seconds is of this machine; ``passes`` and ``grads`` are other axes.

figure = results.figure("convergence", y="phi_gap", x="grads")

# %%
# Who pays how much for the same targets?

print(results.leaders()[["solver", "cost", "share", "low", "high"]].to_string())
