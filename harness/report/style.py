"""How things look. A solver's colour and line are functions of its name, so they are the same in every report."""

from __future__ import annotations

import colorsys
import contextlib
import io
import logging
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bilevelbench.store.files import written

# Colours that differ also for colour-blind readers (Okabe and Ito, and Tol), first-order methods in warm tones.
HUES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288")
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
OTHERS = (  # a hue and a line of their own each, so no two of ours look alike; only ever add at the end
    "amigo", "bda", "bic_gaffa", "bome_released", "bsa", "bsg1", "bvfsm", "darts", "es", "f2sa_2", "f3sa", "fdehbo",
    "fmd", "fsla", "g_pbgd", "iaptt", "k_rmd", "lower_only", "lv_hba", "ma_soba", "meha", "mrbo", "nystrom",
    "pbgd_free", "pzobo", "random_search", "saba", "sama", "sl_bamm", "spaba", "srba", "stocbio", "sustain", "t1t2",
    "ttsa", "vrbo", "penalty_released", "ogd", "ogd_in_bome", "approx_grad", "bvfsm_in_bome", "penalty_in_bome",
)  # fmt: skip
GREY = "#b4b4b4"  # of a solver that is not among the ten
MOST_COLOURED = 10
FONTS = ["STIXGeneral", "DejaVu Sans"]  # come with matplotlib; the first is small, and embedded in no time
DARKEST, LIGHTEST = 0.25, 0.68  # shades of several settings of one solver
LETTER = 0.0078  # inches of width for each point of a letter's height
WIDE = 1.08  # inches of a page for an inch of a figure
LINES = (
    "-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (8, 2, 3, 2)), (0, (4, 1.2, 1, 1.2, 1, 1.2)),
    (0, (2.5, 2.5)),
)  # fmt: skip


def _looks(name: str) -> tuple[str, int]:
    """Colour and line of a solver by its name: ours are told apart, a stranger's are drawn by lot."""
    if name in KNOWN:
        return KNOWN[name], 0
    place = OTHERS.index(name) if name in OTHERS else zlib.crc32(name.encode())
    return HUES[place % len(HUES)], 1 + place // len(HUES) % (len(LINES) - 1)


def colour(label: str) -> str:
    """The colour of a solver by its name (without what is in brackets)."""
    return _looks(label.partition("[")[0])[0]


def line(label: str) -> object:
    """The line style by the name, another one for each choice in brackets."""
    name, _, choice = label.partition("[")
    return LINES[1 + zlib.crc32(choice.encode()) % (len(LINES) - 1)] if choice else LINES[_looks(name)[1]]


class Palette:
    """How the solvers of one report look, by label: ``colour``, ``line``, and a ``name`` short enough for a figure.

    Several settings of one solver keep its colour, each in a shade and a line of its own. ``first``: the solvers that
    are coloured where there are more than ten; the rest are grey.
    """

    def __init__(self, names: Mapping[str, str], first: Sequence[str] = ()) -> None:
        self._names = dict(names)
        self._first = set(first[:MOST_COLOURED]) if len(names) > MOST_COLOURED else set()
        self._settings: dict[str, list[str]] = {}
        for label in sorted(names):
            name, _, choice = label.partition("[")
            if choice:
                self._settings.setdefault(name, []).append(label)

    def name(self, label: str) -> str:
        """The short name."""
        return self._names.get(label, label)

    def grey(self, label: str) -> bool:
        """Whether a solver is not among those that are coloured."""
        return bool(self._first) and label not in self._first

    def colour(self, label: str) -> str:
        """The colour, as hexadecimal digits."""
        return GREY if self.grey(label) else self.own(label)

    def own(self, label: str) -> str:
        """The colour that is the solver's, also where it is drawn in grey."""
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
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "bilevelbench",
            "pdf.compression": 3,  # a tenth of the time of writing, a fifth of the size
            "pdf.fonttype": 42,  # embedded as publishers ask for
            "font.family": FONTS,
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
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    said = f'role="img" aria-label="{name}; its data are in the CSV below"'
    wide = f'<svg {said} style="max-width:{WIDE * figure.get_figwidth():.2f}in"'  # letters of one size, as panels
    svg = svg[svg.index("<svg") :].replace("<svg", wide, 1)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)  # half the size, nobody sees
    return svg.replace(", ".join(f"'{font}'" for font in FONTS), "inherit"), pdf(figure)


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, every font embedded."""
    out = io.BytesIO()
    figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return out.getvalue()


def cut(text: str, most: int) -> str:
    """A text that has room for so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def decades(axis: Axis) -> None:
    """A logarithmic axis with plain labels and no minor ticks: the page has hundreds, and ticks are what costs."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")))
