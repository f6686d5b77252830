"""Pieces of ``tests.campaigns.mutants``: the faults, which tests come by them, and pytest in forks."""
