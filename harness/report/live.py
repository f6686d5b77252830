"""What the page's script reads: who took part, a median and a band for every curve, and the rows of every run.

Each problem has a blob of curves and one of rows, as JSON. While they are small all are in the page. Of many runs the
rows are beside it, as scripts that hand a blob over when they are asked for: a page opened from a file cannot fetch.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import orjson
import pandas as pd

from bilevelbench.store.files import written
from bilevelbench.store.frame import Results
from bilevelbench.store.text import clean

from .curves import LINEAR
from .parts import Atelier
from .style import LINES
from .tables import CLASS

AXES = {
    "total_calls": "oracle calls", "passes": "passes", "grads": "gradient equivalents", "total_rows": "rows of data",
    "step": "outer steps", "seconds": "seconds",
}  # fmt: skip
SCRIPTS = ("view.js", "tables.js", "chart.js", "explore.js", "runs.js")
MOST_BYTES = 7_000_000  # of rows that are in the page
MOST_POINTS = 60_000  # of all curves
FEWEST, MOST = 12, 64  # points of a curve
LONG = 6  # coordinates of an iterate that a row shows


def script() -> dict[str, str]:
    """The page's ``script``, its ``digest`` for the page's policy, so that nothing else is run, and its ``sheet``."""
    here = files("bilevelbench.report")
    parts = [here / "vendor" / "uPlot.iife.min.js", *(here / "scripts" / name for name in SCRIPTS)]
    text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    sheet = (here / "vendor" / "uPlot.min.css").read_text(encoding="utf-8")
    return {"script": text, "digest": digest, "sheet": sheet}


class Payload:
    """The blobs of a page, problem by problem. ``order``: solvers as they are ranked."""

    def __init__(self, atelier: Atelier, order: list[str]) -> None:
        self._atelier, self._order = atelier, order
        self._solvers = {name: place for place, name in enumerate(order)}
        pairs = atelier.data.runs[["problem", "solver"]].drop_duplicates()
        self._most = int(np.clip(MOST_POINTS // max(1, len(pairs)), FEWEST, MOST))
        self._curves, self._rows = dict[str, str](), dict[str, str]()

    def add(self, section: dict[str, Any]) -> None:
        """Add what ``parts.problem`` made of a problem, while its looks are at hand."""
        if not section["arrows"]:
            return
        data, slug, metrics = self._atelier.data, section["slug"], list(section["arrows"])
        looks, runs = data.stored.of(section["name"]), data.runs[data.runs["problem"] == section["name"]]
        metrics = metrics[: 1 if self._atelier.brief else None]
        self._curves[f"curves-{slug}"] = _dumps(curves(looks, metrics, self._solvers, self._most))
        if self._atelier.rows and self._atelier.many:  # for which there is no room in the page, nor in memory
            self._write(f"rows-{slug}", _dumps(_rows(data, looks, runs, metrics)))
        elif self._atelier.rows:
            self._rows[f"rows-{slug}"] = _dumps(_rows(data, looks, runs, metrics))

    def made(self, sections: list[dict[str, Any]]) -> dict[str, Any]:
        """``blobs``: by name, what the page holds; ``beside``: whether rows are in files of their own."""
        blobs = {"facts": _dumps(facts(self._atelier, sections, self._order)), **self._curves}
        index = {"runs": _dumps(_index(self._atelier.data.runs, self._solvers, sections))} if self._atelier.rows else {}
        rows = index | self._rows
        beside = self._atelier.many or sum(map(len, rows.values())) > MOST_BYTES
        for name, text in rows.items() if beside else ():
            self._write(name, text)
        return {"blobs": blobs if beside else blobs | rows, "beside": beside}

    def _write(self, name: str, text: str) -> None:
        with written(self._atelier.out / "data" / f"{name}.js") as private:
            private.write_text(f'bilevelbench.take("{name}",{text});\n', encoding="utf-8")


def facts(atelier: Atelier, sections: list[dict[str, Any]], order: list[str]) -> dict[str, Any]:
    """Solvers in their order with how they look, and problems with what can be shown of them."""
    runs, palette = atelier.data.runs, atelier.palette
    asked = runs.groupby("solver")["order"].max()
    kinds = dict(zip(runs["solver"], runs["kind"], strict=True))
    batched = {s for s, knobs in zip(runs["solver"], runs["knobs"], strict=True) if knobs.get("batch") is not None}
    solvers = [
        {
            "name": s, "short": palette.name(s), "colour": palette.own(s), "dash": _dash(palette.line(s)),
            "order": CLASS.get(asked.get(s, -1), "order not known"), "class": kinds[s] or "other",
            "batches": "minibatches" if s in batched else "all rows", "first": not palette.grey(s),
        }
        for s in order
    ]  # fmt: skip
    families = dict(zip(runs["problem"], runs["family"], strict=True))
    problems = [
        {
            "name": p["name"], "slug": p["slug"], "family": families[p["name"]], "constraint": constraint(p["about"]),
            "metrics": list(p["arrows"])[: 1 if atelier.brief else None], "arrows": p["arrows"], "lines": p["lines"],
            "linear": [m for m in p["arrows"] if m in LINEAR],
        }
        for p in sections
    ]  # fmt: skip
    return {"solvers": solvers, "problems": problems, "axes": list(AXES.values()), "rows": atelier.rows}


def constraint(about: Mapping[str, Any]) -> str:
    """What binds x and y, in a word."""
    functions = about.get("constraints") or []
    if functions:
        return "constraint functions"
    return "bounds" if {"boundary", "kinked"} & set(about.get("flags") or ()) else "none"


def _dash(line: object) -> list[float]:
    return [] if line == LINES[0] else list(line[1])  # type: ignore[index]


def curves(looks: pd.DataFrame, metrics: Sequence[str], solvers: Mapping[str, int], most: int) -> dict[str, Any]:
    """Of each solver the medians over its runs at the steps that all of them have, and the quartiles of each metric.

    Only ``most`` steps are kept. The keys: ``s`` place of the solver, ``n`` runs, ``x`` a list for each of ``AXES``,
    ``y`` for each metric [median, lower, upper quartile], the last two only of at least three runs.
    """
    columns = [name for name in AXES if name in looks]
    made = []
    for solver, group in looks.groupby("solver", sort=True, observed=True):
        runs = group["run"].nunique()
        steps = group["step"].to_numpy()
        found, count = np.unique(steps, return_counts=True)
        common = found[count == runs]
        if len(common) > most:
            common = common[np.unique(np.linspace(0, len(common) - 1, most).round().astype(int))]
        own = group[np.isin(steps, common)]
        order = np.argsort(own["step"].to_numpy(), kind="stable")
        table = own[[*columns, *metrics]].to_numpy(float)[order].reshape(len(common), runs, -1)
        middle = np.median(table, axis=1).T
        band = np.quantile(table[:, :, len(columns) :], (0.25, 0.75), axis=1).transpose(2, 0, 1) if runs > 2 else None
        x = {name: digits(middle[k], 4) for k, name in enumerate(columns)}
        y = [
            [digits(middle[len(columns) + k], 4), *([] if band is None else [digits(b, 4) for b in band[k]])]
            for k in range(len(metrics))
        ]
        made.append({"s": solvers[str(solver)], "n": runs, "x": [x.get(name, []) for name in AXES], "y": y})
    return {"metrics": list(metrics), "curves": made}


def _index(runs: pd.DataFrame, solvers: Mapping[str, int], sections: list[dict[str, Any]]) -> dict[str, Any]:
    """All runs, a list for each column."""
    places = {section["name"]: place for place, section in enumerate(sections)}
    runs = runs[runs["problem"].isin(places)]
    return {
        "run": runs["run"].tolist(), "problem": runs["problem"].map(places).tolist(),
        "solver": runs["solver"].map(solvers).tolist(), "seed": runs["seed"].tolist(),
        "status": runs["status"].tolist(), "fault": runs["fault"].tolist(), "reason": runs["reason"].tolist(),
        "steps": digits(runs["steps"], 6), "calls": digits(runs["calls"], 6), "seconds": digits(runs["seconds"], 4),
    }  # fmt: skip


def _rows(data: Results, looks: pd.DataFrame, runs: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """Of each run of a problem what its page says, and its looks, a list for each column."""
    columns = [name for name in AXES if name in looks]
    table = {
        name: digits(looks[name], 6) for name in (*columns, *metrics)
    }  # at once: a column of each run costs tenfold
    names = looks["run"].to_numpy(str)
    begins = np.flatnonzero(np.append(True, names[1:] != names[:-1])) if len(names) else np.zeros(0, int)
    ends = np.append(begins[1:], len(names))
    spans = {names[a]: (a, b) for a, b in zip(begins, ends, strict=True)}
    made = {}
    for run in runs.to_dict("records"):
        a, b = spans.get(run["run"], (0, 0))
        own = {name: values[a:b] for name, values in table.items()}
        made[run["run"]] = {
            "about": _about(data, run), "path": _path(data.records[run["run"]].rows),
            "x": [own.get(name, []) for name in AXES], "y": [own[name] for name in metrics],
        }  # fmt: skip
    return {"metrics": list(metrics), "runs": made}


def _about(data: Results, run: Mapping[Any, Any]) -> dict[str, Any]:
    """What a run was, in words; what it lacks is left out."""
    record = data.records[run["run"]]
    header = record.header or {}
    said = {
        "solver": header["key"]["solver"], "problem": header["key"]["problem"], "seed": run["seed"],
        "status": run["status"],
        "whose fault": run["fault"], "reason": run["reason"], "ended by": run["ended_by"], "budget": run["budget"],
        "made": header.get("created"), "commit": header.get("environment", {}).get("commit"), "machine": run["machine"],
        "device": f"{run['device']}, {run['dtype']}, {run['engine']}, {run['threads']} threads",
        "load": run["load"], "peak bytes": run["peak_bytes"], "attempts": run["attempts"],
        "tuned": run["tuned"], "file": clean(record.path.name), "traceback": run["traceback"],
    }  # fmt: skip
    return {name: value for name, value in said.items() if value not in (None, "") and value == value}


def _path(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Step, x and y of each iterate that was kept and is short enough to be read."""
    return [
        [row["step"], digits(np.array(row["x"], float), 6), digits(np.array(row["y"], float), 6)]
        for row in rows
        if row.get("x") and row.get("y") and len(row["x"]) <= LONG and len(row["y"]) <= LONG
    ]


def digits(values: Any, n: int) -> np.ndarray:
    """Numbers to so many digits, whole ones exactly."""
    values = np.asarray(values, float)
    if values.size and (np.isfinite(values) & (np.abs(values) < 2**53) & (values == np.rint(values))).all():
        return values.astype(np.int64)
    with np.errstate(all="ignore"):
        exponent = n - 1 - np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** np.abs(exponent)
        rounded = np.where(exponent >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)
    return np.where(np.isfinite(rounded), rounded, values)


def _dumps(value: Any) -> str:
    """JSON that may stand in a page: no sign in it opens or ends anything."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")
