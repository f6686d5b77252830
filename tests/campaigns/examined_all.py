"""Hypergradients of other people's libraries at stated versions, each examined in an environment of its own by uv.

    python -m tests.campaigns.examined_all [NAME...] [--write]

A file of ``tests/campaigns/examined`` for each way of a library. What is wrong is held to ``found.json`` there, which
``--write`` writes anew: a library that has changed, or an observation that comes out otherwise, is named, and the exit
code is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bilevelbench.contract.examine import examine
from bilevelbench.core.errors import RequestError

SIBLING = "test_a_planted_fault_is_found"
FOLDER = Path(__file__).with_name("examined")
KEPT = FOLDER / "found.json"


def observed(name: str) -> dict[str, str]:
    """What is wrong with a file's hypergradient, by what was looked at; one entry where it cannot be run."""
    try:
        return {one.what: one.text for one in examine(FOLDER / f"{name}.py") if not one.fine}
    except RequestError as error:
        return {"cannot be run": str(error)}


def main(arguments: Sequence[str]) -> int:
    """Lines of what is wrong; the number of files for which that is not what is kept."""
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    asked = [a for a in arguments if not a.startswith("-")] or sorted(file.stem for file in FOLDER.glob("[!_]*.py"))
    other = 0
    for name in asked:
        found = observed(name)
        print(f"== {name}: {'nothing wrong' if not found else ''}", flush=True)
        for what, text in found.items():
            print(f"{what}: {text}", flush=True)
        if "--write" in arguments:
            kept[name] = found
        elif set(found) != set(kept.get(name, found)):  # what is not kept is shown alone
            other += 1
            print(f"-- not as kept: {', '.join(sorted(set(found) ^ set(kept[name])))}", flush=True)
    if "--write" in arguments:
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return other


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
