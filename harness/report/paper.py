"""Figures for a paper: as wide as its column, type of at least 7 pt at that width, the symbols of papers, a legend
outside the panels. What is drawn in a panel is what the report draws."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bilevelbench.core.errors import RequestError
from bilevelbench.store.files import make_folder, written

from . import style
from .curves import Curves
from .figures import names
from .style import Palette

ENDINGS = (".pdf", ".png", ".svg")
POINT = 1 / 72.27  # inches of a point, as TeX has it
WIDTHS = {"neurips": 397.48, "icml": 234.88, "jmlr": 433.62, "siam": 372.0}  # points of a line of text
NARROW, WIDE = 72, 1500  # points that a width must be between
PANEL = 150.0  # points that a panel wants at least
GOLDEN = 0.72  # height of a panel over its width
SYMBOLS = {
    "phi_gap": r"$\Phi(x_k) - \Phi^\ast$", "phi": r"$\Phi(x_k)$", "grad_phi": r"$\Vert\nabla\Phi(x_k)\Vert$",
    "gap": r"$g(x_k, y_k) - \min_y g(x_k, y)$", "f": r"$f(x_k, y_k)$", "g": r"$g(x_k, y_k)$",
    "stationarity": r"$\Vert\nabla f + \lambda\nabla q\Vert^2 + q$",
}  # fmt: skip
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SIZES: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7.5, "mathtext.fontset": "stix", "axes.linewidth": 0.5, "xtick.major.width": 0.5,
    "ytick.major.width": 0.5, "xtick.major.size": 2.5, "ytick.major.size": 2.5, "grid.linewidth": 0.4,
    "xtick.major.pad": 2, "ytick.major.pad": 2, "axes.labelpad": 2,
}  # fmt: skip


def inches(style_or_width: str) -> float:
    """The width of a named style, or of a text such as ``252pt``; ``ValueError`` with what is known otherwise."""
    if style_or_width in WIDTHS:
        return WIDTHS[style_or_width] * POINT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)pt", style_or_width)
    if not match or not NARROW <= float(match[1]) <= WIDE:
        raise ValueError(
            f"{style_or_width!r} is no width of a figure; it is {', '.join(WIDTHS)}, or points such as 252pt "
            f"({NARROW} to {WIDE})"
        )
    return float(match[1]) * POINT


@contextlib.contextmanager
def theme() -> Iterator[None]:
    """The report's, in the sizes of a paper."""
    with style.theme(), mpl.rc_context(SIZES):
        yield


class Printed(style.Drawing):
    """A figure that is saved as it is to be printed, whatever else is set at that time."""

    def write(self, path: Path | str) -> None:
        """As PDF, PNG or SVG by the suffix; the same figure gives the same bytes. ``RequestError`` for another one, and
        where it cannot be written."""
        if not isinstance(path, str | Path) or Path(path).suffix not in ENDINGS:
            raise RequestError(f"path={str(path)!r} is not valid here; it has to end in {', '.join(ENDINGS)}")
        try:
            self._write(Path(path))
        except OSError as error:
            raise RequestError(f"path {path} cannot be written ({error.strerror})") from None

    def _write(self, path: Path) -> None:
        make_folder(path.parent)
        with theme(), written(path) as private:
            if self.get_layout_engine():
                for _ in range(2):  # the second time labels stand where their numbers let them
                    self.draw_without_rendering()
                self.set_layout_engine("none")  # or the next drawing moves it by a hair
            if path.suffix == ".pdf":
                private.write_bytes(style.pdf(self))
            else:
                known = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
                self.savefig(private, format=path.suffix[1:], dpi=300, metadata=known)

    def _repr_png_(self) -> bytes:
        with theme():
            return super()._repr_png_()


def canvas(width: float, count: int, aspect: float = GOLDEN, **shared: Any) -> tuple[Printed, list[Axes]]:
    """A figure so wide, in inches, with so many panels, as many in a row as there is room for."""
    columns = max(1, min(count, int(width / POINT / PANEL)))
    rows = -(-count // columns)
    figure = Printed(figsize=(width, width / columns * aspect * rows))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.04)
    panels = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in panels.flat[count:]:
        ax.axis("off")
    return figure, list(panels.flat[:count])


def legend(figure: Figure, solvers: Sequence[str], palette: Palette) -> None:
    """Names below the panels, in as many columns as fit; the figure grows by their height."""
    names = [style.cut(palette.name(solver), 28) for solver in solvers]
    letters = max(map(len, names), default=1)
    width = figure.get_figwidth() / POINT
    columns = max(1, min(len(names), int(width / (30 + 4.1 * letters))))
    lines = [Line2D([], [], color=palette.colour(solver), ls=palette.line(solver), lw=1.3) for solver in solvers]
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + (5 + 9.5 * rows) * POINT)
    figure.legend(
        lines, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.4, columnspacing=1.0,
        handletextpad=0.5, labelspacing=0.2, borderpad=0.1,
    )  # fmt: skip


def powers(ax: Axes) -> None:
    """Numbers of a logarithmic axis as powers of ten, as papers have them."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"10{str(round(np.log10(value))).translate(RAISED)}")


def label(ax: Axes, metric: str) -> None:
    """The symbol of a metric as the label of the y axis; a stranger's metric is its name."""
    ax.set_ylabel(SYMBOLS.get(metric, style.cut(metric, 40)), parse_math=metric in SYMBOLS)


def convergence(
    cases: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], lines: Mapping[str, dict[str, float]], metric: str,
    axes: Mapping[str, str], palette: Palette, width: float,
) -> Printed:  # fmt: skip
    """A panel for each problem, or of one problem for each axis. ``cases``: looks and runs of each problem; ``lines``:
    its reference values, by name."""
    drawn = [(name, column, words) for name in cases for column, words in axes.items()]
    figure, panels = canvas(width, len(drawn))
    for ax, (name, column, words) in zip(panels, drawn, strict=True):
        curves = Curves.of(*cases[name], metric, list(axes), palette)
        curves.draw(ax, column, 0.7)
        shown = {line: value for line, value in lines[name].items() if curves.floor is None or value > 0}
        for value in shown.values():
            ax.axhline(value, color="#333", lw=0.5, ls="--")
        names(ax, shown, 7)
        powers(ax)
        ax.set_xlabel(words)
        label(ax, metric)
        if len(cases) > 1:
            ax.set_title(style.cut(name, 40), loc="left")
    solvers = sorted({s for looks, _ in cases.values() for s in looks.loc[looks[metric].notna(), "solver"].unique()})
    legend(figure, solvers, palette)
    return figure


def memory(table: pd.DataFrame, palette: Palette, width: float) -> Printed:
    """Peak bytes of every solver, a panel for each problem. Columns: problem, solver, peak_bytes."""
    problems, solvers = sorted(table["problem"].unique()), sorted(table["solver"].unique(), reverse=True)
    figure, panels = canvas(width, len(problems), sharey=True)
    rows = {ax.get_subplotspec().rowspan.start for ax in panels}  # type: ignore[union-attr]
    figure.set_figheight(len(rows) * (0.14 * len(solvers) + 0.55) + 0.1)
    for ax, problem in zip(panels, problems, strict=True):
        most = table[table["problem"] == problem].groupby("solver")["peak_bytes"].max().dropna()
        places = [solvers.index(solver) for solver in most.index]
        colours = [palette.colour(solver) for solver in most.index]
        ax.hlines(places, 0, most.to_numpy(float) / 1024, colors=colours, lw=0.9)
        ax.scatter(most.to_numpy(float) / 1024, places, c=colours, s=9, zorder=2)
        ax.set_yticks(range(len(solvers)), [style.cut(palette.name(solver), 28) for solver in solvers])
        ax.set_title(style.cut(problem, 40), loc="left")
        ax.set_xlim(left=0)
        ax.set_xlabel("peak live tensors, KiB")
        ax.grid(axis="y", visible=False)
    return figure
