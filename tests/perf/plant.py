"""How often the gate fails, clean and with slow-downs of 1.35 planted in one place.

    python -m tests.perf.plant [ROUNDS] [SOLVER ...]

prints, for each of so many rounds (20), which layers failed: clean; one solver that takes 1.35 times as long in plain
Python, by calls of functions and by a bare loop that no count sees; one oracle whose derivatives do; one solver with
hidden computations. Run it on a busy machine.
"""

import os
import sys
import time
from collections import Counter
from contextlib import contextmanager

from bilevelbench.contract import gate as gates
from bilevelbench.contract.layers import problem_of
from bilevelbench.core import derive
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure.prices import answer, questions
from bilevelbench.measure.ratio import paired, steps_of
from tests.perf.test_gate import BASELINE, ORACLE_LIMIT, over_frozen, slowed

SHARE = 0.35


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def longer(work):
    """The function, taking longer by a share."""

    def slow(*arguments, **options):
        begin = time.process_time()
        result = work(*arguments, **options)
        spin(SHARE * (time.process_time() - begin))
        return result

    return slow


def sluggish(name):
    """One solver, slower in plain Python."""
    return slowed(name, step=longer(type(make_solver(name)).step))


def looping(name):
    """One solver, slower by a loop that calls nothing and asks torch for nothing."""
    step = type(make_solver(name)).step

    def timed(turns):
        def slow(self, o, s):
            for _ in range(turns):
                pass
            return step(self, o, s)

        return slowed(name, step=slow)

    p = problem_of("")
    some, none = (steps_of(p, timed(turns), 20) for turns in (10_000, 0))
    more = paired(some, none, 9).median - 1  # by turns: a busy machine would spoil two readings
    return timed(round(10_000 * SHARE / more))


def secretive(name):
    """One solver that computes a share of a step's derivatives behind the oracle's back."""
    solver = make_solver(name)
    asked, _ = questions(problem_of(""), solver, 2)
    some = asked[: max(1, round(len(asked) / 2 * SHARE))]
    step = type(solver).step

    def hidden(self, o, s):
        answer(o._problem, some)
        return step(self, o, s)

    return slowed(name, step=hidden)


@contextmanager
def slow_oracle():
    """Every gradient in y by the live oracle takes longer."""
    before = derive.grad_y
    derive.grad_y = longer(before)
    try:
        yield
    finally:
        derive.grad_y = before


def failed(name, solver):
    """The layers that fail on a solver, and on the oracle."""
    baseline = gates.read(BASELINE)
    found = [layer for layer in gates.LAYERS if not gates.verdict(name, layer, baseline, solver).passed]
    return found + ["oracle"] * (over_frozen("dg_y").low > ORACLE_LIMIT)


def main(rounds=20, names=("bome", "itd", "aid_cg", "soba")):
    """Print the table."""
    cases = {}
    for k in range(rounds):
        for name in names:
            cases.setdefault((name, "clean"), []).append(failed(name, make_solver(name)))
        name = names[k % len(names)]
        cases.setdefault(("one solver", "1.35 x, Python"), []).append(failed(name, sluggish(name)))
        cases.setdefault(("one solver", "1.35 x, bare loop"), []).append(failed(name, looping(name)))
        cases.setdefault(("one solver", "1.35 x, hidden torch"), []).append(failed(name, secretive(name)))
        with slow_oracle():
            cases.setdefault(("oracle", "1.35 x, derivative"), []).append(failed(name, make_solver(name)))
        print(f"round {k + 1}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print(f"{'where':12} {'what':20} failed  by layer")
    for (where, what), found in cases.items():
        layers = Counter(layer for layers in found for layer in layers)
        words = ", ".join(f"{layer} {n}" for layer, n in layers.items())
        print(f"{where:12} {what:20} {sum(map(bool, found)):2} of {len(found)}  {words}")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]), *([tuple(sys.argv[2:])] if sys.argv[2:] else []))
