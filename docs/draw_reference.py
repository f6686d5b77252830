"""The figure of the README's first screen: what the published comparison found, in two panels.

    python docs/draw_reference.py

draws docs/_static/reference.svg from reports/reference/data/leaders.csv, whose digest stands in the figure: a test
holds the one to the other.
"""

import hashlib
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from bilevelbench.report import paper, style

ROOT = Path(__file__).parents[1]
DATA = ROOT / "reports" / "reference" / "data" / "leaders.csv"
FIGURE = ROOT / "docs" / "_static" / "reference.svg"


def digest(path: Path) -> str:
    """What names the data that a figure is of."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def drawn(table: pd.DataFrame) -> Figure:
    """Cost and share of targets held, of the solvers that took part in enough to be ranked."""
    table = table[table["lead"].notna()].sort_values("cost", ascending=False, ignore_index=True)
    with paper.theme():
        figure = Figure(figsize=(6.4, 0.6 + 0.22 * len(table)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for place, row in table.iterrows():
            look = {"color": style.colour(row["solver"]), "zorder": 3}
            left.plot(row["cost"], place, "o", **look)
            left.plot([1, row["cost"]], [place, place], lw=1, **look)
            right.plot(row["share"], place, "o", **look)
            right.plot([row["low"], row["high"]], [place, place], lw=1, **look)
        left.set(xscale="log", xlabel="oracle calls for the same targets, over the first's")
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.set_yticks(range(len(table)), table["solver"])
        right.set(xlim=(0, None), xlabel="targets held, with 95 % interval")
        right.xaxis.set_major_formatter(PercentFormatter(1))
        for ax in (left, right):
            ax.grid(axis="y", visible=False)
    return figure


def main() -> None:
    """Draw it."""
    with paper.theme(), mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "reference"}):
        metadata = {"Date": None, "Creator": None, "Description": digest(DATA)}
        drawn(pd.read_csv(DATA)).savefig(FIGURE, metadata=metadata, facecolor="white")
    print(FIGURE)


if __name__ == "__main__":
    main()
