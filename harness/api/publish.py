"""``bilevelbench.publish``: results as a static folder for any web host, to which others add theirs."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.store import files, points
from bilevelbench.store.journal import Record, read

from . import arguments, exports
from .results import Results

SUMS, INDEX = "SHA256SUMS", "index.json"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>bilevelbench results</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
td,th{{text-align:left;padding:.2rem 1.5rem .2rem 0}}</style>
<h1>bilevelbench results</h1>
<table><thead><tr><th>suite<th>version<th>runs<th>machines<th>data</tr></thead><tbody>
{rows}
</tbody></table>
<p>Records of another machine join these: <code>bilevelbench report RECORDS OWN_RESULTS</code>.</p>
</html>
"""


def publish(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = "results",
    out: str | os.PathLike[str] = "site", *, brief: bool = False,
) -> Path:  # fmt: skip
    """Write a static folder: for each suite and version a report, its records, the tables as Parquet, and digests.

    What is in ``out`` stays: records of other machines that were published there before are in the new report, too.
    Records that are damaged or foreign are left out, with a warning for each.

    Parameters
    ----------
    folders
        One results folder or several.
    out
        The folder of the site.
    brief
        One figure for each problem.

    Returns
    -------
    Path
        The index page of the site.

    Raises
    ------
    RequestError
        Where there is no result, where pyarrow is missing, or where the folder cannot be written.
    """
    index, troubles = published(folders, out, brief)
    for trouble in troubles:
        warnings.warn(f"not published: {trouble}", stacklevel=2)
    return index


def published(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], brief: bool
) -> tuple[Path, list[str]]:
    """The index page of what ``publish`` writes, and a sentence for each record that is damaged or foreign."""
    site, places = (
        arguments.path("out", out),
        [arguments.path("folders", one) for _, one in arguments.named("folders", folders)],
    )
    for place in places:
        if not place.is_dir():
            raise RequestError(f"there is no results folder {place}; name the folder that was given to `run` as out")
    exports.needs_pyarrow("publish")
    parts, troubles = dict[tuple[str, str], list[Record]](), list[str]()
    for path in (path for place in places for path in files.records(place) if path.suffix == files.FINAL):
        record = read(path)
        if record.header is not None and not record.troubles:
            parts.setdefault(_part(record.header), []).append(record)
        troubles += record.troubles
    if not parts:
        why = troubles[0] if troubles else "make some with `run`"
        raise RequestError(f"{' and '.join(map(str, places))}: no finished result to publish; {why}")
    try:
        for names, records in sorted(parts.items()):
            _write(site.joinpath(*names), records, brief)
        return _index(site), troubles
    except OSError as error:
        raise exports.unwritten(site, error) from None


def _part(header: dict[str, Any]) -> tuple[str, str]:
    """Suite and version, as names of folders."""
    environment = header.get("environment") or {}
    version = "-".join(filter(None, (str(environment.get("bilevelbench") or ""), str(environment.get("commit"))[:8])))
    suite = Path(str(header.get("suite") or "runs")).stem
    clean = [re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "runs" for text in (suite, version)]
    return clean[0], clean[1]


def _write(folder: Path, records: list[Record], brief: bool) -> None:
    """A part of the site: records, of which those that are there stay, and what follows from all of them, anew."""
    kept = folder / "records"
    files.make_folder(kept)
    for record in records:
        header = record.header or {}
        place = str((header.get("environment") or {}).get("place") or "")
        name = record.path.name if files.stem_of(record.path.name) else f"{header['digest']}-{place}{files.FINAL}"
        for source, target in ((record.path, kept / name), (points.beside(record.path), points.beside(kept / name))):
            if files.is_plain(source):
                with files.written(target) as private:
                    shutil.copyfile(source, private)
    results = Results.load([kept])
    results.report(folder, brief=brief)
    results.to_parquet(folder / "parquet")
    machines = sorted(set(results.runs["machine"]))
    (folder / INDEX).write_text(json.dumps({"runs": len(results.runs), "machines": machines}), encoding="utf-8")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    sums = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in found
    )
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def _index(site: Path) -> Path:
    rows = []
    for path in sorted(site.glob(f"*/*/{INDEX}")):
        said = json.loads(path.read_text(encoding="utf-8"))
        suite, version = path.parts[-3:-1]
        data = " ".join(f'<a href="{suite}/{version}/{name}">{name}</a>' for name in ("parquet", "records", SUMS))
        machines = html.escape("; ".join(said["machines"]))
        page = f'<a href="{suite}/{version}/index.html">{version}</a>'
        rows.append(f"<tr><td>{suite}<td>{page}<td>{said['runs']}<td>{machines}<td>{data}</tr>")
    index = site / "index.html"
    index.write_text(PAGE.format(rows="\n".join(rows)), encoding="utf-8")
    return index
