"""What the README's first command takes: wall and CPU seconds of a suite, and the share that is solver steps.

    python -m tests.campaigns.default_suite [SUITE] [JOBS]

Prints wall seconds, CPU seconds of all its processes together, the seconds of solver steps among them, and the share.
The promise is five minutes on two idle cores for ``default``: at most 600 CPU seconds.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

import bilevelbench as bb

SIBLING = "test_the_default_is_a_sample_of_the_reference"


def main(suite: str = "default", jobs: str = "2") -> None:
    """Run a suite into a folder of its own and say what it took."""
    with tempfile.TemporaryDirectory() as out:
        begun = time.monotonic()
        command = [sys.executable, "-m", "bilevelbench", "run", suite, "--jobs", jobs, "--out", out]
        done = subprocess.run(command, check=False)
        wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        runs = bb.load(out).runs
    cpu, steps = used.ru_utime + used.ru_stime, float(runs["cpu_seconds"].sum())
    print(f"{suite}: exit code {done.returncode}, {len(runs)} runs, {wall:.0f} s of wall time with {jobs} jobs")
    print(f"{cpu:.0f} CPU seconds, {steps:.0f} of them solver steps: {steps / cpu:.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
