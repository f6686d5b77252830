"""
The bias of truncation
======================

ITD differentiates T steps of descent and not the minimiser. On a quadratic that bias is known exactly; here it is
measured, by solving for long with each T.
"""

import matplotlib.pyplot as plt

import bilevelbench as bb

counts = [1, 2, 5, 10, 20]
gaps = []
for T in counts:
    solution = bb.solve("quadratic(kappa=10)", f"itd(lr=0.015,lr_inner=1.0,T={T})", steps=600, judge=True)
    gaps.append(solution.history["phi_gap"].iloc[-1])

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.semilogy(counts, gaps, "o-")
axes.set(xlabel="T, steps of the lower loop", ylabel="Phi(x) - Phi* at the end")

# %%
# With T = 1 the solver ends far from the solution, however long it runs; with every further step the bias shrinks.

print(dict(zip(counts, (f"{gap:.1e}" for gap in gaps), strict=True)))
