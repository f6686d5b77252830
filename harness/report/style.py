"""How things look. A solver's colour and line are functions of its name, so they are the same in every report."""

from __future__ import annotations

import io
import logging
import zlib
from pathlib import Path

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Colours that differ also for colour-blind readers (Okabe and Ito, and Tol), first-order methods in warm tones.
KNOWN = {
    "bome": "#d55e00",
    "vpbgd": "#e69f00",
    "f2sa": "#cc79a7",
    "first_order": "#7f7f7f",
    "penalty": "#882255",
    "itd": "#0072b2",
    "aid_cg": "#009e73",
    "aid_neumann": "#56b4e9",
    "soba": "#332288",
}
# Twenty-four hues of equal lightness and saturation (HUSL), the palette "husl" of seaborn.
OTHERS = (
    "#f77189", "#f7755d", "#e68332", "#ce9032", "#bb9832", "#aa9e31", "#97a431", "#7eaa31", "#50b131", "#32b166",
    "#34af84", "#35ae96", "#36ada4", "#37abb1", "#38aabf", "#39a7d0", "#3ba3ec", "#7a98f4", "#a48cf4", "#c67df4",
    "#e866f4", "#f561dd", "#f668c2", "#f66ca8",
)  # fmt: skip
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def colour(label: str) -> str:
    """The colour of a solver by its name (without what is in brackets)."""
    name = label.partition("[")[0]
    return KNOWN.get(name) or OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]


def line(label: str) -> object:
    """The line style: solid for a solver's defaults, another one for each choice in brackets."""
    name, _, choice = label.partition("[")
    if choice:
        return LINES[1 + zlib.crc32(choice.encode()) % (len(LINES) - 1)]
    return LINES[0] if name in KNOWN else LINES[zlib.crc32(name.encode()) % len(LINES)]


def apply() -> None:
    """Set matplotlib up for all figures of a report; the same data give the same bytes.

    Ticks and greys are those of seaborn's theme "ticks" for papers, whose import takes as long as reading 10^5 rows.
    """
    mpl.use("Agg")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # Helvetica is the PDF reader's and browser's
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "bilevelbench",
            "pdf.compression": 3,  # a tenth of the time of writing, a fifth of the size
            "pdf.use14corefonts": True,  # nothing to embed: a fifth of the time and of the size
            "font.family": "Helvetica",
            "font.size": 9,
            "axes.labelsize": 9,
            "axes.titlesize": 9.5,
            "legend.fontsize": 8.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#555",
            "axes.linewidth": 0.7,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "lines.solid_capstyle": "round",
            "lines.linewidth": 1.2,
            "lines.markersize": 4.8,
            "text.color": "#262626",
            "axes.labelcolor": "#262626",
        }
    )
    mpl.rc("xtick", color="#262626", labelsize=8.8)
    mpl.rc("ytick", color="#262626", labelsize=8.8)
    mpl.rc("xtick.major", size=4.8, width=1.0)
    mpl.rc("ytick.major", size=4.8, width=1.0)


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write ``name.pdf`` and return the figure as SVG to be put into a page."""
    mpl.rcParams["svg.hashsalt"] = name  # ids stay apart when many figures share one page
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace("'Helvetica'", "inherit")


def decades(axis: Axis) -> None:
    """A logarithmic axis with plain labels and no minor ticks: the page has hundreds, and ticks are what costs."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")))
