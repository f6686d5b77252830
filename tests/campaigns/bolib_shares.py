"""Which solver solves which share of BOLIB, by the structure of the lower level.

    bilevelbench run bolib --out RESULTS
    python -m tests.campaigns.bolib_shares RESULTS reports/bolib

Solved is a run that ends with a judged Phi within 1 % of 1 + |Phi*| of Phi*; where constraints above are violated at
(x, y*(x)), the violation counts as distance. A row with constraints that a solver has no way with is in no share. The
table goes to standard output, the runs behind it to ``runs.csv``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import bilevelbench as bb
from bilevelbench.core.spec import parse
from bilevelbench.problems._bolib import STRUCTURES, rows

SIBLING = "test_shares_are_of_what_a_solver_takes"
CLOSE = 0.01  # of 1 + |Phi*|
COLUMNS = ["structure", "problem", "solver", "seed", "status", "steps", "calls", "phi_star", "phi_gap", "solved"]


def made(results: bb.Results) -> pd.DataFrame:
    """A row for each run: problem, structure, how it ended, its last judged gap, and whether that solves."""
    looks = results.looks.dropna(subset=["phi_gap"]).sort_values("step")
    last = looks.groupby("run")["phi_gap"].last()
    table = results.runs.copy()
    found = [rows()[parse(problem).arguments["name"]] for problem in table["problem"]]
    table["problem"] = [row.name for row in found]
    table["structure"] = [row.structure for row in found]
    table["phi_star"] = [row.value for row in found]
    table["phi_gap"] = table["run"].map(last)
    table["solver"] = table["solver"].str.partition("(")[0]
    near = table["phi_gap"].abs() <= CLOSE * (1 + table["phi_star"].abs())
    table["solved"] = near & (table["status"] == "done")
    return table[COLUMNS].sort_values(COLUMNS[:4], ignore_index=True)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Solved of taken rows by structure (rows) and solver (columns), as text; all structures last."""
    taken = table[table["status"] != "unsupported"]
    everything = taken.assign(structure="all")
    counted = pd.concat([taken, everything]).groupby(["structure", "solver"])["solved"].agg(["sum", "count"])
    text = counted["sum"].astype(int).astype(str) + " of " + counted["count"].astype(str)
    order = [name for name in [*STRUCTURES, "all"] if name in text.index.get_level_values(0)]
    return text.unstack().reindex(order).fillna("-")


def main(results: str, out: str) -> None:
    """The table of shares as Markdown, and the runs behind it."""
    table = made(bb.load(results))
    print(f"{len(table)} runs: {dict(table['status'].value_counts())}\n")
    text = shares(table)
    print(f"| structure | {' | '.join(text.columns)} |\n|{' --- |' * (len(text.columns) + 1)}")
    for name, cells in text.iterrows():
        print(f"| {name} | {' | '.join(cells)} |")
    Path(out).mkdir(parents=True, exist_ok=True)
    table.to_csv(Path(out) / "runs.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main(*sys.argv[1:])
