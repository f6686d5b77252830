"""Measuring: the one loop, its clock, the judge, memory, worker processes and the plan of what to run."""
