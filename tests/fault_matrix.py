"""Forty faults: every way in which a solver's or a problem's code can fail, at every place where it runs.

``written(folder)`` makes the files; ``EXPECTED`` says how the run of each has to end. A fault at import stands in a
file of its own.
"""

from pathlib import Path
from textwrap import indent

# how it fails -> (the line, the status and part of the reason)
WAYS = {
    "raises": ("raise RuntimeError('a mistake')", "error", "a mistake"),
    "exits": ("raise SystemExit(0)", "error", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "error", "KeyboardInterrupt"),
    "leaves": ("os._exit(0)", "error", "exit code 0"),
    "crashes": ("crash()", "error", "signal 11"),
    "hogs": ("torch.empty(2**46, dtype=torch.uint8)", "oom", "memory"),
    "hangs": ("time.sleep(3600)", "timeout", "time limit"),
}
HEAD = """\
import os, signal, time
import torch
from bilevelbench import Draw, Point, Problem, problem, solver

def crash():
    import faulthandler
    faulthandler.disable()
    faulthandler._sigsegv()
"""
SOLVER = """
@solver("{name}")
class S:
    def init(self, o, x, y):
{init}
        return Point(x, y)

    def step(self, o, s):
        x, y = s.x - 0.1 * o.df_x(s.x, s.y), s.y - 0.1 * o.dg_y(s.x, s.y)
        if o.step >= 2:
{step}
        return Point(x, y)
"""
PROBLEM = """
@problem("{name}")
def p(rng: Draw):
{build}
    asked = [0]

    def f(x, y):
        return ((y - 1) ** 2).sum() + (x ** 2).sum()

    def g(x, y):
        asked[0] += 1
        if asked[0] > 40 and (x != 1).any():
{ask}
        return ((y - x) ** 2).sum()

    def references():
{references}
        return {{"none": {{"phi": 1.0}}}}

    def metrics(x, y):
        if (x != 1).any():
{metrics}
        return {{"size": float(x.norm())}}

    start = torch.ones(2, dtype=torch.float64)
    kinds = {{"flags": {{"strongly_convex"}}, "references": references, "metrics": metrics}}
    return Problem(f=f, g=g, x0=start, y0=0 * start, **kinds)
"""
AT_SOLVER = ("init", "step")
AT_PROBLEM = ("build", "references", "metrics", "ask")
HANGS = ("step", "build")  # hanging is waited for, so not everywhere


def cases():
    """(name, kind, place, way) of each fault."""
    for way in WAYS:
        for kind, places in (("solver", AT_SOLVER), ("problem", AT_PROBLEM)):
            for place in places:
                if way == "hangs" and place not in HANGS:
                    continue
                if place == "ask" and way in ("leaves", "crashes", "hogs"):
                    continue  # whose code was running cannot be told from outside: the steps were
                yield f"{kind}_{place}_{way}", kind, place, way
        if way not in ("raises", "hangs", "hogs"):  # what an import raises is a request that is refused
            for kind in ("solver", "problem"):
                yield f"{kind}_import_{way}", kind, "import", way


EXPECTED = {name: (kind, place, *WAYS[way][1:]) for name, kind, place, way in cases()}


def written(folder: Path) -> dict[str, Path]:
    """The file of each fault."""
    made = {}
    for name, kind, place, way in cases():
        line = WAYS[way][0]
        parts = dict.fromkeys((*AT_SOLVER, *AT_PROBLEM), "pass") | {place: line}
        template = SOLVER if kind == "solver" else PROBLEM
        depth = {"step": 12, "init": 8, "build": 4, "references": 8, "metrics": 12, "ask": 12}
        body = template.format(name=name, **{at: indent(parts[at], " " * depth[at]) for at in depth})
        made[name] = folder / f"{name}.py"
        made[name].write_text(HEAD + (f"{line}\n" if place == "import" else "") + body)
    return made
