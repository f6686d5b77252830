"""Small random faults put into the measuring code, one at a time: how many do the fast tests find?

    uv run --with cosmic-ray python -m tests.campaigns.mutants 400 [SEED] [--rooms measure run] [--part 1/2]

Draws places of ``measure``, ``run``, ``store`` and ``stats`` and a fault for each (cosmic-ray's operators: another
comparison, sign, number, constant; a decorator or a loop left out), writes it into a copy of the tree and runs the
tests that come by that statement, in their own process or in one that they start: those of the module first, the
quickest first, until one fails. A fault is found where a test fails, or where the tests hang: use three times the CPU
seconds that they used to (and 20), or sleep for a minute; wall seconds say nothing. What no test comes by is not found,
and no place is drawn twice. The share is a lower bound: of the tests only those of ``NAMES``, of them at most ``MOST``
CPU seconds for a fault, none of the slower tiers. At the end the tests that failed are run without a fault, and what
one that fails then has found does not count.

``--log`` keeps a line for each fault; those that it holds are not run again. ``--maps``: a folder that keeps which test
comes by which statement. ``--part 1/2``: every second one of the faults drawn, for two processes that share log and
maps; a count of 0 makes the maps alone, which several processes may do together.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from .mutation import forks
from .mutation.asked import Map
from .mutation.faults import LEFT_OUT, Fault, draw, mutated
from .mutation.survey import survey

SIBLING = "test_the_contract_catches_what_breaks_it"

ROOT = Path(__file__).parents[2]
ROOMS = ("measure", "run", "store", "stats")
NAMES = (
    "stats", "comparable", "labels", "store", "claims", "reader", "manifest", "measuring", "steps", "guards", "sealed",
    "audit", "suites", "tune", "run", "engines", "processes", "faults", "report", "bad_solvers", "judge", "outer",
    "once", "facts", "face", "by_hand", "declared", "own_problem", "solve", "plugins", "modules", "rounding",
    "problem_contract", "reference", "budget", "order", "files", "text", "heartbeat", "journal", "frame", "schema",
    "points", "sights", "level", "inverse", "lower", "drive", "elsewhere", "failure", "hook", "job", "plan", "prices",
    "request", "stamps", "supervise", "guarding", "figures", "replay", "looks",
    "worker", "tasks", "readings", "claiming", "batching", "aims", "standings", "sensitivity", "which",
)  # fmt: skip
MOST = 30.0  # CPU seconds of tests for one fault


def tried(root: Path, work: Path, site: Path, tests: Map, fault: Fault, most: float) -> dict[str, Any]:
    """What became of a fault."""
    source, module = (root / fault.file).read_text(), fault.file.removeprefix("harness/")
    changed = mutated(source, fault.operator, fault.occurrence)
    copies = (work / fault.file, site / module)
    asked = tests.asked(module, fault.place[0], most)
    code: int | str = "no test comes by"
    spent, by = 0.0, ""
    if asked.tests:
        stamps = [(copy.stat().st_atime_ns, copy.stat().st_mtime_ns) for copy in copies]
        for copy in copies:
            copy.write_text(changed)
        code, spent = forks.in_a_fork(root, work, ["-x", *forks.QUIET, *asked.tests], 3 * asked.seconds + 20)
        for copy, stamp in zip(copies, stamps, strict=True):
            copy.write_text(source)
            os.utime(copy, ns=stamp)  # what was compiled from it is good again
        by = next(iter(forks.failures(work)), "")
    diff = [line for line in difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
            if line[:1] in "+-" and line[:3] not in ("+++", "---")]  # fmt: skip
    return fault._asdict() | {
        "found": code not in (0, 5, "no test comes by"), "code": code, "by": by, "tests": len(asked.tests),
        "seconds": round(spent, 1), "diff": diff,
    }  # fmt: skip


def summary(known: list[dict[str, Any]], doubted: set[str]) -> str:
    """The figure, what it leaves out and what was not found."""
    lost = [line for line in known if not line["found"] or line["by"] in doubted]
    found = len(known) - len(lost)
    low, high = binomtest(found, len(known)).proportion_ci(method="wilson")
    words = [f"{line['file']}:{line['place'][0]} {line['code']}\n  " + "\n  ".join(line["diff"]) for line in lost]
    hung = sum(isinstance(line["code"], str) and line["found"] for line in known)
    return "\n".join([
        *words, f"{found} of {len(known)} found: {found / len(known):.3f} ({low:.3f} to {high:.3f}, Wilson, 95 %), "
        f"{hung} of them by hanging, {len(doubted)} tests doubted", "left out: " + "; ".join(LEFT_OUT),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--rooms", nargs="+", default=ROOMS, choices=ROOMS)
    parser.add_argument(
        "--tests", nargs="+", default=NAMES, help="files of tests that are asked, by what is after test_"
    )
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--log", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--maps", type=Path, default=Path("mutants-maps"))
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    for name in forks.HEAVY:
        importlib.import_module(name)
    files = [f"tests/test_{name}.py" for name in given.tests]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        work = Path(folder).resolve()
        site = forks.copied(ROOT, work)
        forks.in_a_fork(ROOT, work, [*forks.QUIET, "--collect-only", *files], 600, keep_bytecode=True)
        survey(ROOT, work, site, ROOMS, files, given.maps)
        if given.count == 0:
            return
        tests = Map(site, given.maps, files)
        print(f"failing in the copy, and not run: {tests.bad}", file=sys.stderr, flush=True)
        known = [json.loads(line) for line in given.log.read_text().splitlines()] if given.log.exists() else []
        done = {(line["file"], *line["place"]) for line in known}
        drawn = draw(ROOT, given.rooms, given.count, given.seed)[part - 1 :: parts]
        for k, fault in enumerate(drawn):
            if (fault.file, *fault.place) in done:
                continue
            line = tried(ROOT, work, site, tests, fault, MOST)
            word = "found" if line["found"] else "SURVIVED"
            if line["code"] != "lost":
                known.append(line)
                with given.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
            print(f"[{k + 1}] {fault.file}:{fault.place[0]} {word} {line['code']} {line['seconds']} s", flush=True)
        found_by = sorted({line["by"] for line in known if "::" in line["by"]})
        print(summary(known, {*forks.failing(ROOT, work, found_by)}))


if __name__ == "__main__":
    main()
