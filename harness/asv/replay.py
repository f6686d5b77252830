"""A deliberate slow-down over two commits, and asv finding it.

    python -m bilevelbench.asv.replay

clones this checkout into a temporary folder, commits hidden work into BOME's step there, runs `asv continuous` over
the two commits on the ratio of a step over its floor, and says whether asv found it (exit code 0) or not (1). The
first environment takes asv a minute or more.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = r"Floor\.track_step_over_floor\('quadratic', 'bome', 'eager', 'cpu'\)"
STEP = re.compile(r"(    def step\(self, o: Oracle, s: \w+\) -> \w+:\n)")
WORK = "        for _ in range(60 * self.T):  # planted\n            s.x @ s.x\n"


def find(checkout: Path, folder: Path) -> tuple[bool, str]:
    """Whether asv reports the slow-down, and what it printed."""
    clone = folder / "clone"
    git = ["git", "-c", "user.name=replay", "-c", "user.email=replay@example.org"]
    subprocess.run([*git, "clone", "--quiet", "--no-hardlinks", str(checkout), str(clone)], check=True)
    subprocess.run([*git, "checkout", "--quiet", "-B", "main"], cwd=clone, check=True)
    file = clone / "solvers" / "bome.py"
    slow, n = STEP.subn(lambda found: found[1] + WORK, file.read_text(encoding="utf-8"), count=1)
    if n != 1:
        raise RuntimeError(f"{file} has no step to slow down")
    file.write_text(slow, encoding="utf-8")
    subprocess.run(
        [*git, "commit", "--quiet", "--all", "--no-verify", "-m", "A deliberate slow-down"], cwd=clone, check=True
    )
    asv = [sys.executable, "-m", "asv"]
    subprocess.run([*asv, "machine", "--yes"], cwd=clone, check=True, capture_output=True)
    done = subprocess.run(
        [*asv, "continuous", "--show-stderr", "--bench", BENCH, "HEAD~1", "HEAD"],
        cwd=clone, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    return done.returncode == 1 and "PERFORMANCE DECREASED" in said, said


def main() -> None:
    """The command."""
    checkout = Path.cwd()
    if not (checkout / ".git").exists() or not (checkout / "asv.conf.json").exists():
        print("error: asv follows commits: run this in the folder of a git checkout of bilevelbench", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        found, said = find(checkout, Path(folder))
    print(said)
    print("asv found the slow-down" if found else "asv did not find the slow-down")
    sys.exit(0 if found else 1)


if __name__ == "__main__":
    main()
