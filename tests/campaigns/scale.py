"""A folder of a hundred thousand runs: what it takes to plan them, to resume when all are there, and to say how it is.

    python -m tests.campaigns.scale runs [RUNS [FOLDER]]
    python -m tests.campaigns.scale rows [ROWS [FOLDER]]

``runs``: four are made; the others are these with other seeds in their headers. It prints one line of JSON: CPU seconds
and megabytes of the commands ``run --on folder`` (plan, then resume) and ``status``, start of Python included.
``rows``: those of the command ``report``, of made-up results with so many rows, ten million by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bilevelbench as bb
from bilevelbench.asv import rows
from bilevelbench.run.on import plan
from bilevelbench.store import files
from bilevelbench.store.schema import RunKey

SIBLING = "test_the_status_of_a_folder"
PROBLEMS, SOLVERS = ("quadratic(d=4)", "quadratic(d=6)"), ("bome", "soba")


def command(*arguments: str) -> tuple[dict[str, float], str]:
    """CPU seconds, wall seconds and megabytes of a command, and what it said."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "bilevelbench", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, said
    figures = used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024
    return dict(zip(("cpu", "wall", "mb"), (round(value, 1) for value in figures), strict=True)), said


def fill(folder: Path, patterns: Path) -> int:
    """Write the record of every planned run that has none; how many there are."""
    made = {}
    for path in files.records(patterns):
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
        header = json.loads(head)
        made[header["key"]["problem"], header["key"]["solver"]] = header, rest
    planned = plan.texts(folder)
    for text in planned.values():
        key = RunKey(**json.loads(text)["key"])
        header, rest = made[key.problem, key.solver]
        path = folder / files.final_name(key, header["environment"]["place"])
        line = json.dumps({**header, "key": key.as_json(), "digest": key.digest}, separators=(",", ":"))
        path.write_text(f"{line}\n{rest}", encoding="utf-8")
    return len(planned)


def of_runs(runs: int, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as patterns:
        bb.run(list(PROBLEMS), list(SOLVERS), seeds=[0], steps=30, out=patterns, progress=False)
        seeds = runs // (len(PROBLEMS) * len(SOLVERS))
        named = [part for flag, names in (("-p", PROBLEMS), ("-s", SOLVERS)) for name in names for part in (flag, name)]
        asked = ["run", *named, "--seeds", f"0-{seeds - 1}", "--steps", "30", "--out", str(folder), "--on", "folder"]
        found = {"plan": command(*asked)[0]}
        count = fill(folder, Path(patterns))
    found["resume"], said = command(*asked)
    assert f"{count} of them are finished already" in said, said
    found["status"], said = command("status", str(folder))
    assert f"{count} finished ({count} done)" in said, said
    return {"runs": count, **found}


def of_rows(count: int, folder: Path) -> dict[str, Any]:
    wrote = rows.write(folder / "results", count)
    size = sum(path.stat().st_size for path in (folder / "results").iterdir())
    found, _ = command("report", str(folder / "results"), "-o", str(folder / "report"))
    return {"rows": wrote, "gigabytes": round(size / 1e9, 2), "report": found}


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    way, usual = {"runs": (of_runs, 100_000), "rows": (of_rows, 10_000_000)}[what]
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(way(int(given[0]) if given else usual, Path(given[1] if given[1:] else scratch))))
