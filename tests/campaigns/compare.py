"""How often `compare` finds what is planted, and what it says of equal code: every solver that comes with the package.

    python -m tests.campaigns.compare [equal | planted] [SOLVER ...]

equal: a copy of this checkout against another, all solvers. planted: against copies in which solvers take 1.15 times as
long: in their own Python, by every answer of the oracle, by torch operations that nobody asked for. Prints a line for
each solver, and how many were found, in how many seconds of the wall. Run it on a busy machine.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bilevelbench.api.versions import compare
from bilevelbench.core.registry import SOLVERS
from bilevelbench.stats.versions import SLOWER

SIBLING = "test_it_stops_when_it_knows_and_blames_the_one_that_is_lost"
ROOT = Path(__file__).parents[2]
SHARE = 0.15
SLOW = """
import time as _time


def _slower(work, share):
    def slow(*arguments, **options):
        begin = _time.process_time()
        result = work(*arguments, **options)
        end = _time.process_time() + share * (_time.process_time() - begin)
        while _time.process_time() < end:
            {spin}
        return result

    return slow
"""
SPIN, HIDDEN = "pass", "_torch.ones(64) @ _torch.ones(64)"


def copy(folder):
    """The checkout's code, with the links that map it."""
    for name in ("harness", "solvers", "problems", ".typings"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def slow_solver(folder, name, spin=SPIN, share=SHARE):
    """The solver, slower by a share, in plain Python or by hidden operations of torch."""
    entry = SOLVERS.entries[name]
    file = folder / "solvers" / Path(entry.file).name
    imports = "\nimport torch as _torch\n" if spin is HIDDEN else ""
    slower = f"\n{entry.make.__name__}.step = _slower({entry.make.__name__}.step, {share})\n"
    file.write_text(file.read_text() + imports + SLOW.format(spin=spin) + slower)


def slow_oracle(folder, share=SHARE):
    """Every derivative of the eager engine, slower by a share."""
    file = folder / "harness" / "core" / "derive.py"
    names = ("value", "grad", "grad_x", "grad_y", "second", "cross_transposed")
    file.write_text(
        file.read_text() + SLOW.format(spin=SPIN) + "".join(f"{n} = _slower({n}, {share})\n" for n in names)
    )


def told(what, base, head, names, seconds):
    """Compare and print; how many were called slower."""
    begin = time.monotonic()
    found = compare(base, head, names, seconds=seconds, progress=False)
    took = time.monotonic() - begin
    for cell in found.cells:
        low, high = found_bounds(cell, found.alpha)
        print(f"  {cell.solver:16} {len(cell.launches):2} launches {cell.interval(found.alpha).median:6.3f} "
              f"({low:.3f} to {high:.3f}) {cell.verdict(found.alpha)}", flush=True)  # fmt: skip
    slower = sum(cell.speed(found.alpha) == SLOWER for cell in found.cells)
    words = {speed: sum(cell.speed(found.alpha) == speed for cell in found.cells)
             for speed in ("slower", "faster", "as fast", "not decided")}  # fmt: skip
    print(f"{what}: {words} of {len(found.cells)}; {took:.0f} s, {took / len(found.cells):.0f} s each, "
          f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    return slower


def found_bounds(cell, alpha):
    """Both bounds of a cell."""
    return cell.interval(alpha)[1:]


def main():
    """The tables."""
    what, *names = sys.argv[1:] or ["equal"]
    every = [name for name in SOLVERS.names() if not names or name in names]
    with tempfile.TemporaryDirectory() as scratch:
        base = copy(Path(scratch) / "base")
        if what == "equal":
            told("equal code", base, copy(Path(scratch) / "head"), every, 60)
            return
        own, oracle = (copy(Path(scratch) / name) for name in ("own", "oracle"))
        for k, name in enumerate(every[::3] + every[1::3]):
            slow_solver(own, name, HIDDEN if k % 2 else SPIN)
        slow_oracle(oracle)
        told("in solvers, by turns Python and hidden torch", base, own, every[::3] + every[1::3], 180)
        told("in every derivative", base, oracle, every[2::3], 180)


if __name__ == "__main__":
    main()
