"""The page of what grows with the size of a network, out of ``bilevelbench.asv.scale``'s rows.

    python -m bilevelbench.report.scaled reports/scale/scale.csv

writes ``README.md`` (tables in words that the rows bear) and ``scale.svg`` and ``scale.pdf`` beside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from bilevelbench.store.files import written

from . import paper, style

ROWS, REACH, TRAINED = 32, 5, 50  # as in asv.scale, which needs torch: a test holds them to it
GB = 1e9
ROOMS = (24, 80)  # GB of the devices that people have
WIDTH, HEIGHT = 7.2, 5.4
PANELS = {
    "step_seconds": "CPU seconds of a step",
    "peak_bytes": "peak bytes of a step, without data",
}


def fits(rows: pd.DataFrame, room: float) -> float:
    """The n_y at which a method fills ``room`` bytes, by the line through its two largest sizes; NaN with fewer.

    rows: of one solver on one network, with ``n_y`` and ``peak_bytes``.
    """
    known = rows.dropna(subset=["n_y", "peak_bytes"]).sort_values("n_y").tail(2)
    if len(known) < 2:
        return float("nan")
    (n, m), (a, b) = known["n_y"], known["peak_bytes"]
    slope = (b - a) / (m - n)
    return float(n + (room - a) / slope) if slope > 0 else float("inf")


def table(rows: pd.DataFrame, network: str) -> str:
    """Solvers by sizes in Markdown: seconds of a step and over the loop by hand, copies of y, and where room ends."""
    some = rows[rows["network"] == network]
    sizes = sorted(some["asked"].unique())
    largest = sizes[-1]
    heads = ["solver", *(f"{size:.0e} s" for size in sizes), "over hand", "copies of y", "f / start"]
    heads += [f"n_y in {room} GB" for room in ROOMS]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for solver in some["solver"].unique():
        mine = some[some["solver"] == solver].set_index("asked").reindex(sizes)
        at = mine.loc[largest]
        cells = [f"`{solver}`", *(_seconds(mine.loc[size]) for size in sizes)]
        cells += [_number(at["over_hand"], ".2f"), _number(at["copies"], ".1f"), _number(at["f_ratio"], ".3f")]
        cells += [_number(fits(mine.reset_index(), room * GB), ".1e") for room in ROOMS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ahead(rows: pd.DataFrame, network: str) -> str:
    """Who is ahead at each size, in Markdown: by f after ``REACH`` seconds of steps, by seconds and by bytes of a step;
    and who did not fit."""
    some = rows[rows["network"] == network]
    by = {f"least f / start in {REACH} s": "f_ratio", "fewest seconds": "step_seconds", "fewest bytes": "peak_bytes"}
    lines = ["| n_y | " + " | ".join(by) + " | no figures |", "|" + " --- |" * (len(by) + 2)]
    for size, mine in some.groupby("asked"):
        known = mine.dropna(subset=["n_y"])
        cells = [f"{size:.0e}"]
        for column in by.values():
            best = known.sort_values(column, kind="stable").head(1)
            cells += [f"`{row.solver}` ({getattr(row, column):.3g})" for row in best.itertuples()] or [""]
        failed = mine[mine["n_y"].isna()]
        cells.append(", ".join(f"`{row.solver}`: {row.reason}" for row in failed.itertuples()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seconds(row: pd.Series) -> str:
    return _number(row["step_seconds"], ".3g") or str(row["reason"] if pd.notna(row["reason"]) else "")


def _number(value: float, how: str) -> str:
    return "" if pd.isna(value) else format(float(value), how)


def draw(rows: pd.DataFrame) -> style.Drawing:
    """Seconds and bytes of a step over n_y, a row of panels for each network."""
    networks = list(rows["network"].unique())
    figure = style.Drawing(figsize=(WIDTH, HEIGHT * len(networks) / 2), layout="constrained")
    grid = figure.subplots(len(networks), len(PANELS), squeeze=False, sharex=True)
    for line, network in zip(grid, networks, strict=True):
        for axes, (column, words) in zip(line, PANELS.items(), strict=True):
            _panel(axes, rows[rows["network"] == network], column)
            axes.set(title=f"{network}: {words}", xlabel="n_y", xscale="log", yscale="log")
            paper.powers(axes)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    for solver, mine in rows.dropna(subset=["n_y", column]).groupby("solver", sort=False):
        name = str(solver).partition("(")[0]
        axes.plot(mine["n_y"], mine[column], marker=".", color=style.colour(name), ls=style.line(name), label=name)
    if column == "peak_bytes":
        for room in ROOMS:
            axes.axhline(room * GB, color="#999", lw=0.7, ls=":")


def write(source: Path) -> Path:
    """The page beside a CSV of rows; its path."""
    rows = pd.read_csv(source)
    device = ", ".join(sorted(rows["device"].unique()))
    with style.theme():
        svg, pdf = style.drawn(draw(rows), "scale")
    parts = [
        "# What grows with the size of a network",
        f"Device: {device}. Made by `python -m bilevelbench.asv.scale --out {source.name}` and "
        f"`python -m bilevelbench.report.scaled {source.name}`; rows in [{source.name}]({source.name}), figure as "
        f"[PDF](scale.pdf). float32, one thread, {ROWS} rows, T = 5; seconds are CPU seconds of a step (the device's, "
        "elsewhere), `over hand` and `copies of y` those of the largest size, `f / start` what f is there at the "
        f"x of {REACH} seconds of steps, over f at the start, the network trained anew by {TRAINED} steps of Adam at "
        "either; at the largest sizes those are two or three steps. Steps are by one rule for all, not tuned: "
        "1 / (4 L) below, L the largest curvature of g at the start, and one for each row above. Where room ends is "
        "the line through the two largest sizes.",
        "![seconds and bytes of a step](scale.svg)",
    ]
    for network in rows["network"].unique():
        parts += [f"## {network}", table(rows, str(network)), ahead(rows, str(network))]
    page = source.parent / "README.md"
    for path, content in (
        (page, ("\n\n".join(parts) + "\n").encode()),
        (source.parent / "scale.svg", svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode()),
        (source.parent / "scale.pdf", pdf),
    ):
        with written(path) as private:
            private.write_bytes(content)
    return page


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path)
    given = parser.parse_args()
    if not given.source.is_file():
        print(f"error: {given.source} is no file; python -m bilevelbench.asv.scale --out makes one", file=sys.stderr)
        sys.exit(2)
    print(write(given.source))


if __name__ == "__main__":
    main()
