"""How often the gate fails, clean and with what is planted in one place.

    python -m tests.perf.plant [ROUNDS] [FAMILY ...]

prints, for so many rounds (20), how many failed and by which layer first. ``clean`` and ``loop``: the command on a copy
of the checkout, in which a step takes 1.35 times as long by a bare loop that no count sees. In this process: a solver
whose step takes as much longer by Python ``calls``, by ``hidden`` operations of torch, by ``derivatives`` behind the
oracle's back; an ``oracle`` whose answers take 1.35 times as long; a step that holds ``bytes`` like n * n. Each round
takes another of the solvers that come with the package. Run it on a busy machine.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from bilevelbench.contract import gate as gates
from bilevelbench.contract.layers import problem_of
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure.prices import answer, questions
from bilevelbench.measure.ratio import steps_of
from tests import plants
from tests.perf.test_calls import NAMES
from tests.perf.test_gate import BASELINE, ORACLE_LIMIT, over_frozen

SHARE = 0.35
CALL = 3  # turns of an empty loop that a call takes, about
DIVIDED = 64  # bytes that a planted step holds are n * n over so many


def first_failed(name, baseline):
    """The first layer that fails on a solver in this process, or on the oracle; '' where all hold."""
    solver = make_solver(name)  # by its name it would be measured in other processes, too
    for layer in gates.LAYERS:
        if not gates.verdict(name, layer, baseline, solver).passed:
            return layer
    return "oracle" if over_frozen("dg_y").low > ORACLE_LIMIT else ""


def commanded(name, checkout):
    """The first layer of which the command says that it fails on a solver of a checkout; '' where all hold."""
    command = [sys.executable, "-m", "bilevelbench", "gate", name, "--baseline", str(BASELINE)]
    env = os.environ | {"PYTHONPATH": str(checkout / ".typings"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    failed = re.findall(r"^FAILED \S+ (\w+): (.*)", done.stdout, re.MULTILINE)
    for layer, words in failed:
        print(f"{name} {layer}: {words}", file=sys.stderr, flush=True)
    return failed[0][0] if failed else ""


@contextmanager
def longer(name, kind="python", checkout=None):
    """A solver, longer by a loop, in this process or in a checkout."""
    plant = plants.in_solver(name, kind)
    plant.fit(steps_of(problem_of(""), make_solver(name), 1), SHARE)
    with plant.planted(checkout) if checkout else plant:
        yield


@contextmanager
def changed(name, before):
    """A solver whose step does something more at first: ``before(oracle, state)``, whose answer it holds meanwhile."""
    owner = type(make_solver(name))
    step = owner.step

    def more(self, o, s):
        held = before(o, s)
        new = step(self, o, s)
        del held
        return new

    owner.step = more
    try:
        yield
    finally:
        owner.step = step


def calls(name):
    """A solver, longer by calls of Python."""
    plant = plants.in_solver(name)
    plant.fit(steps_of(problem_of(""), make_solver(name), 1), SHARE)
    return changed(name, lambda o, s: [abs(k) for k in range(plant.turns // CALL)])


def derivatives(name):
    """A solver that computes a share of a step's derivatives behind the oracle's back."""
    asked, _ = questions(problem_of(""), make_solver(name), 2)
    some = asked[: max(1, round(len(asked) / 2 * SHARE))]
    return changed(name, lambda o, s: answer(o._problem, some))


def bytes_(name):
    """A solver that holds n * n / 64 bytes more for a while: less than a copy of y at n = 4."""
    return changed(name, lambda o, s: torch.zeros(len(s.y) ** 2 // DIVIDED, dtype=torch.int8))


@contextmanager
def oracle(name):
    """Answers in y that take longer."""
    problem, plant = problem_of(""), plants.in_oracle()
    live = Oracle(problem)

    def ask():
        for _ in range(25):
            live.dg_y(problem.x0, problem.y0)

    plant.fit(ask, SHARE)
    with plant:
        yield


HERE = {
    "calls": calls, "hidden": lambda name: longer(name, "hidden"), "derivatives": derivatives, "oracle": oracle,
    "bytes": bytes_,
}  # fmt: skip
FAMILIES = ("clean", "loop", *HERE)


def main(rounds=20, families=FAMILIES):
    """Print the table."""
    torch.set_num_threads(1)
    baseline, found = gates.read(BASELINE), {family: [] for family in families}
    with tempfile.TemporaryDirectory() as scratch:
        checkout = plants.checkout(Path(scratch) / "checkout")
        for k in range(rounds):
            for family in families:
                name = NAMES[(rounds * FAMILIES.index(family) + k) % len(NAMES)]
                if family in HERE:
                    with HERE[family](name):
                        layer = first_failed(name, baseline)
                else:
                    with longer(name, checkout=checkout) if family == "loop" else nullcontext():
                        layer = commanded(name, checkout)
                found[family].append((name, layer))
                print(f"{family} {name}: {layer or 'held'}", file=sys.stderr, flush=True)
            print(f"round {k + 1}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print(f"{'family':12} failed    by the layer; those that held (where clean, those that failed)")
    for family, told in found.items():
        layers = Counter(layer for _, layer in told if layer)
        words = ", ".join(f"{layer} {n}" for layer, n in layers.items())
        odd = [f"{name} {layer}".strip() for name, layer in told if bool(layer) == (family == "clean")]
        print(f"{family:12} {layers.total():2} of {len(told)}  {words}; {', '.join(odd) or 'none'}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *([tuple(sys.argv[2:])] if sys.argv[2:] else []))
