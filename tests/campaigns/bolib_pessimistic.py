"""Pessimistic values of BOLIB: of several lower solutions the one with the largest F is taken, where that differs.

    python -m tests.campaigns.bolib_pessimistic [NAME...]      # a line for each row; those that differ last, as a table

The pessimistic value is nowhere below the optimistic one. So where all lower solutions at the optimistic x* have the
same F, both values are equal. Elsewhere the pessimistic one is looked for on a grid of x, as ``tests.campaigns.bolib``
does it; it is a least upper value that may be approached and not attained. Rows of up to two x whose lower level the
library solves exactly.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
import torch

from bilevelbench.lower.star import LowerSolution
from bilevelbench.problems._bolib import STRUCTURES, Row, rows

from .bolib import Found, checked, grid, phi

SIBLING = "test_pessimistic_values_are_where_lower_solutions_differ"
SAME = 1e-5  # of the size of a value
ENDLESS = 1e9  # F grows without bound among lower solutions, up to where the library looks


def worst(row: Row) -> LowerSolution:
    """The row's lower level, with the choice against us."""
    low, high = (torch.tensor(side, dtype=torch.float64) for side in row.y)
    return LowerSolution(lambda x, y: -row.F(x, y), row.f, row.g, low, high, STRUCTURES[row.structure])


def at_the_optimum(row: Row) -> float:
    """The largest F among lower solutions at the optimistic x*; infinite where one violates an upper constraint."""
    assert row.solution is not None
    return phi(row, worst(row), np.array(row.solution[0]))[0]


def pessimistic(row: Row) -> Found | None:
    """Value and place where the pessimistic value differs; None where it is the optimistic one."""
    room = SAME * (1 + abs(row.value))
    if at_the_optimum(row) <= row.value + room:
        return None
    found = checked(row, grid(row, worst(row)))
    if found.value > ENDLESS:
        found = found._replace(value=math.inf)
    return None if found.value <= row.value + 100 * room else found


def main(names: Sequence[str]) -> None:
    """A line for each row."""
    torch.set_num_threads(1)
    differ: dict[str, Found] = {}
    for name in names or rows():
        row = rows()[name]
        if math.isnan(row.value) or row.structure == "nonlinear_below" or row.answer is not None:
            continue
        if row.n_x > 2:
            same = at_the_optimum(row) <= row.value + SAME * (1 + abs(row.value))
            print(f"# {name}: {'the same' if same else 'not looked for: more than two x'}", flush=True)
            continue
        if (found := pessimistic(row)) is None:
            print(f"# {name}: the same", flush=True)
            continue
        differ[name] = found
        print(f"# {name}: {found.value:.8g} at x = {found.x}, y = {found.y}; optimistic {row.value:.8g}", flush=True)
    for name, found in differ.items():
        print(f"{name} = {found.value!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
