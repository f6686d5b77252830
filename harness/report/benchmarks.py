"""A page of what pytest-benchmark measured: everything in ``extra_info``, ratios drawn, an earlier file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bilevelbench.core.errors import RequestError
from bilevelbench.store.files import make_folder
from bilevelbench.store.history import machine_of

from . import sheet, style
from .rendered import render
from .tables import number

HEADS = ("solver", "layer", "passed", "found", "expected", "remark")
DRAWN = ("interval", "limit")  # numbers behind ``found`` and ``expected``
ROW = 0.19  # inches of a figure's height for each name
ALIKE = 1.5  # calibrations further apart are those of different machines


def read(path: Path) -> dict[str, Any]:
    """A file of ``pytest --benchmark-json``, or a ``RequestError``."""
    if not path.is_file():
        raise RequestError(f"there is no benchmark file {path}; `pytest tests/perf --benchmark-json {path}` makes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"benchmarks", "machine_info", "version"} <= set(content):
        raise RequestError(f"{path} is no file of pytest-benchmark; make one with `pytest --benchmark-json {path}`")
    return content


def machine(content: dict[str, Any]) -> str:
    """What must be equal for seconds to be compared."""
    return machine_of(content)


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether seconds of two files are of the same machine, or of two that are the same to a benchmark: the processor,
    its cores, Python, and how long a calibration took, where both have one."""
    told = [(each["machine_info"].get("identity") or {}).get("calibration") for each in (one, other)]
    took = [milliseconds for milliseconds in told if milliseconds]
    return machine(one) == machine(other) and (len(took) < 2 or max(took) <= ALIKE * min(took))


def write(path: Path, out: Path, earlier: Path | None = None) -> Path:
    """Write ``benchmarks.html``, its figures and data under ``out``. ``earlier``: another file, of the same machine."""
    new, old = read(path), read(earlier) if earlier else None
    if old is not None and not alike(old, new):
        raise RequestError(
            f"{earlier} was measured on another machine ({machine(old)}) than {path} ({machine(new)}): "
            "seconds of one say nothing about the other"
        )
    if old is not None and old["version"].partition(".")[0] != new["version"].partition(".")[0]:
        raise RequestError(f"{earlier} has another schema of pytest-benchmark ({old['version']}) than {path}")
    table = _table(new, old)
    for folder in (out, out / "figures", out / "data"):
        make_folder(folder)
    sheet.write(table.drop(columns=["more", "once"]), out / "data" / "benchmarks.csv")
    with style.theme():
        figures = (
            ("floor", "Steps over their floor, oracle over its frozen copy", _ratios(table, old is not None)),
            ("seconds", "Seconds over the earlier file's", _over_earlier(table)),
        )
        drawn = [
            {"stem": stem, "title": title, "svg": style.save(figure, out / "figures", stem)}
            for stem, title, figure in figures
            if figure is not None
        ]
    rows = table.to_dict("records")
    facts = {
        "machine": machine(new), "made": new.get("datetime", ""), "earlier": old and old.get("datetime", ""),
        "rows": sorted(rows, key=lambda row: row["passed"] is not False), "number": number,
        "figures": drawn, "failed": sum(row["passed"] is False for row in rows),
    }  # fmt: skip
    render(out / "benchmarks.html", "benchmarks.html.jinja", facts)
    return out / "benchmarks.html"


def _table(new: dict[str, Any], old: dict[str, Any] | None) -> pd.DataFrame:
    """A row per benchmark: HEADS, then median, low, high and limit of a ratio, milliseconds, and what was before."""
    before = {bench["fullname"]: bench for bench in (old or {}).get("benchmarks", [])}
    rows = []
    for bench in new["benchmarks"]:
        extra, ms = bench.get("extra_info") or {}, 1e3 * bench["stats"]["median"]
        was, once = before.get(bench["fullname"]), bench["stats"].get("rounds") == 1  # how long a gate's layer took
        low_high = dict(zip(("ratio", "low", "high"), extra.get("interval") or [None] * 3, strict=True))
        more = {name: value for name, value in extra.items() if name not in (*HEADS, *DRAWN)}
        rows.append(
            {"test": bench["name"], **{head: extra.get(head, "") for head in HEADS},
             "more": ", ".join(f"{name} {value}" for name, value in more.items()),
             **low_high, "limit": extra.get("limit"),
             "ratio_before": ((was or {}).get("extra_info", {}).get("interval") or [None])[0],
             "milliseconds": ms, "once": once,
             "over_earlier": ms / (1e3 * was["stats"]["median"]) if was and not once else None}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["test", *HEADS, "more", "once"])


def _names(table: pd.DataFrame) -> pd.Series:
    """What a row of a figure is called: the solver, the oracle's answer, or the test where it says neither."""
    named = table["solver"].where(table["solver"] != "", table["test"])
    return named.where(~table["layer"].astype(str).str.startswith("oracle "), table["layer"])


def _ratios(table: pd.DataFrame, compared: bool) -> Figure | None:
    """Each ratio with its interval and its limit; a ring where the earlier file had it."""
    shown = table[table["ratio"].notna()] if "ratio" in table else table[:0]
    if not len(shown):
        return None
    figure, ax = _rows(list(_names(shown)))
    for place, (name, row) in enumerate(zip(_names(shown), shown.to_dict("records"), strict=True)):
        colour = style.colour(name)
        ax.plot([row["low"], row["high"]], [place, place], color=colour, lw=2)
        ax.plot(row["ratio"], place, "o", color=colour, ms=4)
        ax.plot(row["limit"], place, "|", color="#c00" if row["low"] > row["limit"] else "#333", ms=8, mew=1.4)
        if pd.notna(row["ratio_before"]):
            ax.plot(row["ratio_before"], place, "o", mfc="none", mec="#333", ms=6, mew=0.8)
    ax.axvline(1, color="#999", lw=0.7, ls=":")
    ax.set_xlabel("ratio, 95 % interval; |: limit" + ("; ring: earlier" if compared else ""))
    return figure


def _over_earlier(table: pd.DataFrame) -> Figure | None:
    """Median seconds of every benchmark over the earlier file's, a row per solver."""
    shown = table[table["over_earlier"].notna()] if "over_earlier" in table else table[:0]
    if not len(shown):
        return None
    data = pd.DataFrame({"name": _names(shown), "over": shown["over_earlier"].astype(float), "layer": shown["layer"]})
    data["layer"] = data["layer"].replace(r"^oracle .*", "oracle", regex=True).replace("", "other")
    names = list(dict.fromkeys(data["name"]))
    figure, ax = _rows(names)
    for layer, points in data.groupby("layer", sort=False):
        ax.scatter(points["over"], points["name"].map(names.index), s=20, alpha=0.8, label=layer)
    ax.axvline(1, color="#999", lw=0.7, ls=":")
    ax.set(xscale="log", xlabel="median seconds, later over earlier")
    style.decades(ax.xaxis)
    low, high = min(0.5, 0.9 * data["over"].min()), max(2.0, 1.1 * data["over"].max())
    ax.set_xlim(low, high)
    ax.set_xticks(ticks := [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= tick <= high], map(str, ticks))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _rows(names: list[str]) -> tuple[Figure, Axes]:
    figure = style.Drawing(figsize=(9.2, ROW * len(names) + 0.8), layout="constrained")
    ax = figure.subplots()
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return figure, ax
