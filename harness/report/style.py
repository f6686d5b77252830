"""How things look. A solver's colour and line are functions of its name, so they are the same in every report."""

from __future__ import annotations

import colorsys
import contextlib
import io
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bilevelbench.store.files import written

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
OTHERS = sns.color_palette("husl", 24).as_hex()
DARKEST, LIGHTEST = 0.25, 0.68  # shades of several settings of one solver
LETTER = 0.0078  # inches of width for each point of a letter's height
WIDE = 1.08  # inches of a page for an inch of a figure
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def colour(label: str) -> str:
    """The colour of a solver by its name (without what is in brackets)."""
    name = label.partition("[")[0]
    return KNOWN.get(name) or str(OTHERS[zlib.crc32(name.encode()) % len(OTHERS)])


def line(label: str) -> object:
    """The line style: solid for a solver's defaults, another one for each choice in brackets."""
    name, _, choice = label.partition("[")
    if choice:
        return LINES[1 + zlib.crc32(choice.encode()) % (len(LINES) - 1)]
    return LINES[0] if name in KNOWN else LINES[zlib.crc32(name.encode()) % len(LINES)]


class Palette:
    """How the solvers of one report look, by label: ``colour``, ``line``, and a ``name`` short enough for a figure.

    Several settings of one solver keep its colour, each in a shade and a line of its own.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._settings: dict[str, list[str]] = {}
        for label in sorted(names):
            name, _, choice = label.partition("[")
            if choice:
                self._settings.setdefault(name, []).append(label)

    def name(self, label: str) -> str:
        """The short name."""
        return self._names.get(label, label)

    def colour(self, label: str) -> str:
        """The colour, as hexadecimal digits."""
        place, count = self._place(label)
        plain = colour(label)
        if count < 2:
            return plain
        hue, _, saturation = colorsys.rgb_to_hls(*to_rgb(plain))
        return to_hex(colorsys.hls_to_rgb(hue, DARKEST + (LIGHTEST - DARKEST) * place / (count - 1), saturation))

    def line(self, label: str) -> object:
        """The line style."""
        place, count = self._place(label)
        return line(label) if count < 2 else LINES[place % len(LINES)]

    def _place(self, label: str) -> tuple[int, int]:
        settings = self._settings.get(label.partition("[")[0], [])
        return (settings.index(label), len(settings)) if label in settings else (0, 1)


def apply() -> None:
    """Set matplotlib up for all figures of a report; the same data give the same bytes."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # Helvetica is the PDF reader's and browser's
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "bilevelbench",
            "pdf.compression": 3,  # a tenth of the time of writing, a fifth of the size
            "pdf.use14corefonts": True,  # nothing to embed: a fifth of the time and of the size
            "font.family": "Helvetica",
            "text.parse_math": False,  # a label is a label, whatever signs are in it
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
        }
    )


@contextlib.contextmanager
def theme() -> Iterator[None]:
    """``apply``, for as long as this is open: in a notebook figures of other things are drawn, too."""
    with mpl.rc_context():
        apply()
        yield


class Drawing(Figure):
    """A figure that no window and no other figure knows of, and that a notebook shows."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        with theme():
            self.savefig(out, format="png", dpi=110)
        return out.getvalue()


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write ``name.pdf`` and return the figure as SVG to be put into a page."""
    svg, pdf = drawn(figure, name)
    with written(folder / f"{name}.pdf") as private:
        private.write_bytes(pdf)
    return svg


def drawn(figure: Figure, name: str) -> tuple[str, bytes]:
    """The figure as SVG to be put into a page, and as PDF."""
    mpl.rcParams["svg.hashsalt"] = name  # ids stay apart when many figures share one page
    text, pdf = io.StringIO(), io.BytesIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    known = svg.encode("cp1252", "ignore").decode("cp1252") == svg  # the signs that a PDF reader's own fonts have
    with mpl.rc_context({"pdf.use14corefonts": known}):
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    wide = f'<svg style="max-width:{WIDE * figure.get_figwidth():.2f}in"'  # letters of one size, however many panels
    return svg[svg.index("<svg") :].replace("<svg", wide, 1).replace("'Helvetica'", "inherit"), pdf.getvalue()


def cut(text: str, most: int) -> str:
    """A text that has room for so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def decades(axis: Axis) -> None:
    """A logarithmic axis with plain labels and no minor ticks: the page has hundreds, and ticks are what costs."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")))
