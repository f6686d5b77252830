"""The kernel: problems, oracles, solvers, registries, randomness. Imports torch and the standard library only."""
