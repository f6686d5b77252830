"""One run: the loop, its clock and budget, the judge, memory, prices and exact counts."""
