# /// script
# requires-python = ">=3.11"
# dependencies = ["boat-torch==1.1.1", "torch==2.15.0"]
# ///
"""boat-torch 1.1.1, 400 steps of naive gradient descent, unrolled (RAD)."""

from _boat import through

hypergradient = through(["RAD"], steps=400, lr=0.9)
