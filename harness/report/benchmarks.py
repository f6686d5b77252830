"""A page of what pytest-benchmark measured: everything in ``extra_info``, and medians beside an earlier file's."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError

HEADS = ("solver", "layer", "passed", "found", "expected", "remark")
MACHINE = ("node", "machine", "python_version")


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
    info = content["machine_info"]
    brand = (info.get("cpu") or {}).get("brand_raw", "")
    return ", ".join(str(part) for part in [brand, *(info.get(name, "") for name in MACHINE)] if part)


def write(path: Path, out: Path, earlier: Path | None = None) -> Path:
    """Write ``benchmarks.html`` under ``out``. ``earlier``: another file; of another machine it is refused."""
    new, old = read(path), read(earlier) if earlier else None
    if old is not None and machine(old) != machine(new):
        raise RequestError(
            f"{earlier} was measured on another machine ({machine(old)}) than {path} ({machine(new)}): "
            "seconds of one say nothing about the other"
        )
    if old is not None and old["version"].partition(".")[0] != new["version"].partition(".")[0]:
        raise RequestError(f"{earlier} has another schema of pytest-benchmark ({old['version']}) than {path}")
    before = {} if old is None else {bench["fullname"]: bench["stats"]["median"] for bench in old["benchmarks"]}
    rows = [_row(bench, before) for bench in new["benchmarks"]]
    failed = sum((bench.get("extra_info") or {}).get("passed") is False for bench in new["benchmarks"])
    heads = ["test", *HEADS, "more", "median, ms", *(["over the earlier"] if before else [])]
    out.mkdir(parents=True, exist_ok=True)
    page = out / "benchmarks.html"
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    cells = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    page.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bilevelbench gate</title>'
        f"<style>{style}</style></head><body><main><h1>Performance gate</h1>"
        f'<p class="verdict">{len(rows)} benchmarks, {failed} outside what is expected.</p>'
        f'<p class="note">{html.escape(machine(new))}, {html.escape(str(new.get("datetime", "")))}. '
        "The gate judges counts and ratios; the seconds are to be looked at on a quiet machine.</p>"
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>'
        f"<tbody>{cells}</tbody></table></div></main></body></html>\n",
        encoding="utf-8",
    )
    return page


def _row(bench: dict[str, Any], before: dict[str, float]) -> list[str]:
    extra, median = bench.get("extra_info") or {}, bench["stats"]["median"]
    more = ", ".join(f"{name} {value}" for name, value in extra.items() if name not in HEADS)
    row = [bench["name"], *(str(extra.get(head, "")) for head in HEADS), more, f"{1e3 * median:.3g}"]
    if before:
        old = before.get(bench["fullname"])
        row.append("new" if old is None else f"{median / old:.2f}")
    return row
