"""Slow-downs in three of six commits, and asv finding them.

    python -m bilevelbench.asv.replay

clones this checkout into a temporary folder and makes six commits there, of which the third makes BOME's step take 1.3
times as long, the fourth ITD's twice, and the fifth AID-CG's hold twice the bytes. Then asv runs over all six and
publishes, and what its page of regressions names is held against what was planted: exit code 0 where it is exactly
that. It says how many megabytes asv's environment takes, too.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bilevelbench.asv.command import obeyed
from bilevelbench.core.errors import RequestError

BENCH = r"^(exact\.(Calls|Memory)|speed\.Floor)\..*'quadratic', '(bome|itd|aid_cg)'"
STEP = re.compile(r"(    def step\(self, o: Oracle, s: \w+\) -> \w+:\n)")
SPIN = """        import time as _time
        _end = _time.process_time() + {share} * getattr(type(self), "_took", 0.0)  # planted
        while _time.process_time() < _end:
            pass
        _begin = _time.process_time()
        try:
            return self._planted(o, s)
        finally:
            type(self)._took = _time.process_time() - _begin

    def _planted(self, o, s):
"""
HOLD = "        _held = [s.y + k for k in range(8)]  # planted\n"
COMMITS: list[tuple[str, str, str]] = [
    ("nothing yet", "", ""), ("nothing yet either", "", ""), ("bome 1.3x", "bome", SPIN.format(share=0.3)),
    ("itd 2x", "itd", SPIN.format(share=1.0)), ("aid_cg holds more", "aid_cg", HOLD), ("nothing more", "", ""),
]  # fmt: skip
PLANTED = {("speed.Floor", "bome"), ("speed.Floor", "itd"), ("exact.Memory", "aid_cg")}


def commits(checkout: Path, clone: Path) -> None:
    """A clone with six commits more."""
    git = ["git", "-c", "user.name=replay", "-c", "user.email=replay@example.org"]
    subprocess.run([*git, "clone", "--quiet", "--no-hardlinks", str(checkout), str(clone)], check=True)
    subprocess.run([*git, "checkout", "--quiet", "-B", "main"], cwd=clone, check=True)
    for name, solver, lines in COMMITS:
        if solver:
            file = clone / "solvers" / f"{solver}.py"
            head, begun, rest = STEP.split(file.read_text(encoding="utf-8"), maxsplit=1)
            file.write_text(head + begun + lines + rest, encoding="utf-8")
        command = [*git, "commit", "--quiet", "--all", "--allow-empty", "--no-verify", "-m", name]
        subprocess.run(command, cwd=clone, check=True)


def flagged(published: dict[str, Any]) -> set[tuple[str, str]]:
    """(class, solver) of every regression that asv's page names."""
    found = set()
    for name, *_ in published["regressions"]:
        bench, _, cell = name.partition("(")
        solver = re.findall(r"'(\w+)'", cell)[-1] if cell else ""
        found.add((bench.rpartition(".")[0], solver))
    return found


def megabytes(folder: Path) -> float:
    """What the files in a folder take; what links lead to is not in it."""
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def run(clone: Path) -> tuple[set[tuple[str, str]], str]:
    """What asv flags over the last six commits of a clone, and what it said."""
    asv, said = [sys.executable, "-m", "asv"], []
    for words in (
        ["machine", "--yes"], ["run", "--show-stderr", "--bench", BENCH, f"main~{len(COMMITS)}..main"], ["publish"],
    ):  # fmt: skip
        done = subprocess.run([*asv, *words], cwd=clone, capture_output=True, text=True, check=False)
        said.append(done.stdout + done.stderr)
    file = clone / "reports" / "asv" / "html" / "regressions.json"
    published = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"regressions": []}
    return flagged(published), "\n".join(said)


def main() -> None:
    """The command."""
    checkout = Path.cwd()
    if not (checkout / ".git").exists() or not (checkout / "asv.conf.json").exists():
        raise RequestError("asv follows commits: run this in the folder of a git checkout of bilevelbench")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        commits(checkout, clone)
        if sys.prefix != sys.base_prefix:
            (clone / ".venv").symlink_to(sys.prefix)  # the clone's own environment: see ``install``
        found, said = run(clone)
        size = megabytes(clone / "reports" / "asv" / "env")
    print(said)
    print(f"environment: {size:.0f} MB")
    for what, those in (("found", found & PLANTED), ("missed", PLANTED - found), ("false", found - PLANTED)):
        print(f"{what}: {', '.join(sorted(f'{bench} of {solver}' for bench, solver in those)) or 'none'}")
    sys.exit(0 if found == PLANTED else 1)


if __name__ == "__main__":
    obeyed(main)
