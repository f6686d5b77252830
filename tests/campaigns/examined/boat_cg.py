# /// script
# requires-python = ">=3.11"
# dependencies = ["boat-torch==1.1.1", "torch==2.15.0"]
# ///
"""boat-torch 1.1.1, conjugate gradients after one step (CG)."""

from _boat import through

hypergradient = through(["CG"], steps=1, lr=0.9)
