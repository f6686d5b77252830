# /// script
# requires-python = ">=3.11"
# dependencies = ["boat-torch==1.1.1", "torch==2.15.0"]
# ///
"""boat-torch 1.1.1, 20 steps of naive gradient descent of which the first 10 are not differentiated (RGT, RAD)."""

from _boat import through

hypergradient = through(["RAD", "RGT"], steps=20, lr=0.5, cut=10)
