"""How often `compare` finds what is planted, and what it says of equal code.

    python -m tests.campaigns.compare planted [FIRST-LAST]
    python -m tests.campaigns.compare equal [FIRST-LAST]

planted: 20 solvers that take 1.15 times as long in a copy of this checkout, by Python of their own or by operations of
torch that nobody asked for (commands 0 and 1, of seven solvers each), or by every answer of the oracle (commands 2 to
7, of one each). equal: 60 comparisons in two equal copies, every solver once and some twice, in 12 commands of five,
each held to what a command of one solver is held to. A line for each comparison, then how many were found, in how many
seconds of the wall and of the CPU. Run it on a busy machine.

The number before an arrow is the ratio that was measured of a plant, by turns and in one process, before the command.
"""

import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from bilevelbench.api.versions import compare
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import require
from bilevelbench.measure.ratio import steps_of
from bilevelbench.stats.versions import FASTER, SLOWER
from tests import plants

SIBLING = "test_it_stops_when_it_knows_and_blames_the_one_that_is_lost"
SHARE = 0.15
PROBLEM = "quadratic"
PLANTS, SEVERAL = 20, 7  # in all, and in one command where each is in a solver of its own
EQUAL, TOGETHER = 60, 5


def fitted(kind, name):
    """A plant that makes a solver's step ``1 + SHARE`` times as long, and the ratio that was measured of it."""
    plant = plants.in_oracle() if kind == "oracle" else plants.in_solver(name, kind)
    return plant, plant.fit(steps_of(build_problem(PROBLEM, Draw(0)), make_solver(name), 1), SHARE)


def solvers():
    """Every solver that takes the problem, shuffled."""
    names, problem = [], build_problem(PROBLEM, Draw(0))
    for name in SOLVERS.names():
        try:
            require(make_solver(name), problem)
            names.append(name)
        except Unsupported:
            pass
    random.Random(0).shuffle(names)
    return names


def heirs(names):
    """Those whose class is made of another's: a plant in that one is in these, too."""
    classes = {name: type(make_solver(name)) for name in names}
    return {a for a in names for b in names if a != b and issubclass(classes[a], classes[b])}


def plan(names):
    """The commands that look for plants, each a list of (kind, solver)."""
    known = heirs(names)
    drawn = [name for name in names if name not in known][:PLANTS]
    kinds = [("python", "hidden", "oracle")[k % 3] for k in range(PLANTS)]
    pairs = list(zip(kinds, drawn, strict=True))
    own, oracle = ([pair for pair in pairs if (pair[0] == "oracle") == which] for which in (False, True))
    return [own[k : k + SEVERAL] for k in range(0, len(own), SEVERAL)] + [[pair] for pair in oracle]


def spent():
    """CPU seconds of processes that have ended."""
    found = os.times()
    return found.children_user + found.children_system


def told(base, head, shown):
    """One command, and what it said of each solver; ``shown``: of each solver, what is to be said first."""
    begin, cpu = time.monotonic(), spent()
    found = compare(base, head, list(shown), progress=False)
    took, cpu, load = time.monotonic() - begin, spent() - cpu, os.getloadavg()[0]
    for cell in found.cells:
        ratio, low, high = cell.interval(found.alpha)
        print(f"{shown[cell.solver]:17} {cell.solver:17} {ratio:.3f} ({low:.3f} to {high:.3f}) in "
              f"{len(cell.launches):2} launches: {cell.verdict(found.alpha)}", flush=True)  # fmt: skip
    print(f"    {took / len(shown):.0f} s a solver, CPU {cpu / len(shown):.0f} s, load {load:.1f}", flush=True)
    return found, took / len(shown)


def planted(commands, base, head, names):
    """Slow-downs; how many were called so, and how long each took."""
    hits, seconds = [], []
    for command in plan(names)[commands]:
        with ExitStack() as stack:
            shown = {}
            for kind, name in command:
                plant, reached = fitted(kind, name)
                stack.enter_context(plant.planted(head))
                shown[name] = f"{kind:6} {reached:.3f} ->"
            found, took = told(base, head, shown)
        seconds.append(took)
        hits += [cell.speed(found.alpha) == SLOWER for cell in found.cells]
    print(f"found {sum(hits)} of {len(hits)}; at most {max(seconds):.0f} s a solver")


def equal(commands, base, head, names):
    """False alarms: anything that is called slower, faster, dearer or broken."""
    wrong, seconds = [], []
    every = [names[k % len(names)] for k in range(EQUAL)]
    for some in [every[k : k + TOGETHER] for k in range(0, EQUAL, TOGETHER)][commands]:
        found, took = told(base, head, dict.fromkeys(some, "equal"))
        seconds.append(took)
        alone = found.false_alarms  # of a command of one solver
        wrong += [cell.worse(alone) or cell.speed(alone) == FASTER for cell in found.cells]
    print(f"false alarms: {sum(wrong)} of {len(wrong)}; at most {max(seconds):.0f} s a solver")


def main():
    """The lines."""
    torch.set_num_threads(1)
    what, *numbers = sys.argv[1:] or ["equal"]
    first, _, last = (numbers or ["0-999"])[0].partition("-")
    with tempfile.TemporaryDirectory() as scratch:
        base, head = (plants.checkout(Path(scratch) / name) for name in ("base", "head"))
        {"planted": planted, "equal": equal}[what](slice(int(first), int(last or first) + 1), base, head, solvers())


if __name__ == "__main__":
    main()
