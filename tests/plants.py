"""Slow-downs of a known size, to be planted: a loop of so many turns before each call of one method.

How many turns make a piece of work so many times as long is measured, both by turns, and measured once more of the
result: a clock inside of the plant would make short calls longer by its own reading.
"""

import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from bilevelbench.core.door import Door
from bilevelbench.core.resolve import make_solver
from bilevelbench.measure.ratio import paired

ROOT = Path(__file__).parents[1]
TURN = {"python": 2e-8, "hidden": 1e-6}  # CPU seconds of a turn, about
WORK = {"python": "pass", "hidden": "_held.add_(1.0)"}
TEXT = """
import torch as _torch

_held = _torch.zeros(8)
_plain = {owner}.{method}


def _slower(*arguments, **options):
    for _ in range({turns}):
        {work}
    return _plain(*arguments, **options)


{owner}.{method} = _slower
"""
BLOCK = 0.01  # CPU seconds of a block of work while a plant is fitted


class Plant:
    """A method of a class, made longer in ``with`` by ``turns`` of plain Python, or of hidden operations of torch."""

    def __init__(self, owner, method, kind="python"):
        self.owner, self.method, self.kind = owner, method, kind
        self.turns, self.calls, self.plain = 0, 0, getattr(owner, method)
        held = torch.zeros(8)

        def longer(*arguments, **options):
            self.calls += 1
            if kind == "hidden":
                for _ in range(self.turns):
                    held.add_(1.0)
            else:
                for _ in range(self.turns):
                    pass
            return self.plain(*arguments, **options)

        self.longer = longer

    def __enter__(self):
        setattr(self.owner, self.method, self.longer)
        return self

    def __exit__(self, *error):
        setattr(self.owner, self.method, self.plain)

    def fit(self, work, share, rounds=31):
        """Choose the turns that make the work ``1 + share`` times as long; the ratio that is then measured."""
        with self:
            self.turns = 0
            work()
            self.calls, since = 0, time.process_time()
            work()
            took, calls = time.process_time() - since, max(1, self.calls)
            often = max(1, min(50, round(BLOCK / max(took, 1e-6))))

            def repeated(turns):
                def run():
                    self.turns = turns
                    for _ in range(often):
                        work()

                return run

            def ratio(turns):
                return paired(repeated(turns), repeated(0), rounds).median

            turns = max(1, round(share * took / calls / TURN[self.kind]))
            for _ in range(2):  # the first guess may be far off
                turns = max(1, round(turns * share / max(1e-3, ratio(turns) - 1)))
            reached = ratio(turns)
            self.turns = turns
        return reached

    @contextmanager
    def planted(self, folder):
        """The class is as slow in a checkout, for processes of its own."""
        package, _, name = self.owner.__module__.removeprefix("bilevelbench.").partition(".")
        file = (folder if package == "solvers" else folder / "harness") / package / f"{name}.py"
        before = file.read_text()
        told = {"owner": self.owner.__name__, "method": self.method, "turns": self.turns, "work": WORK[self.kind]}
        file.write_text(before + TEXT.format(**told))
        try:
            yield
        finally:
            file.write_text(before)


def checkout(folder):
    """A copy of this checkout's code, with the links that map it."""
    for name in ("harness", "solvers", "problems", ".typings"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def in_solver(name, kind="python"):
    """A plant in a solver's step."""
    return Plant(type(make_solver(name)), "step", kind)


def in_oracle():
    """A plant in every answer of the oracle."""
    return Plant(Door, "_count")
