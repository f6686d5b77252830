"""Optimistic values of BOLIB by global optimisation with bounds, for rows that ``tests.campaigns.bolib`` leaves open.

    uv run --with pyscipopt==6.3.0 python -m tests.campaigns.bolib_global [NAME...] [--seconds=60] [--write]

The method of Mitsos, Lemonidis and Barton (J. Global Optim. 42, 2008), SCIP for each programme. It knows no stated
value:

* from below: F over (x, y) feasible for both levels, under the Fritz John conditions of the lower level, which hold at
  every lower solution whatever the constraints are like, and f(x, y) <= f(x, z) or z infeasible at x, for each z met;
* a lower solution at the x found, global; and from above the least F at that x among Fritz John points with f as small,
  to 1e-6 of its size. Where the library solves the lower level exactly, its y is taken.

It ends where both meet to 1e-5 of their size. What is unbounded is looked at in [-60, 60] for x, [-200, 200] for y.
Where all constraints below are affine in y, multipliers up to 1e4 times the slope are looked at.
"""

from __future__ import annotations

import math
import sys
import time
import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyscipopt
import sympy
import torch

from bilevelbench.problems._bolib import ROWS, Row, difference, rows

from .bolib import Found, below, box, checked, compared, phi

SIBLING = "test_certified_values_are_attained"

WIDE = 200.0  # as far as y is looked for
CLOSE = 1e-5  # of the size of the value: bounds that meet
SAME = 1e-6  # of the size of f: lower values that count as equal
STEEP = 1e4  # multipliers of affine constraints, in units of the slope of f
ROUNDS = 40


class Formulas(NamedTuple):
    """A row as sympy has it: symbols of x and y, F, f, upper and lower rows as what is to be <= 0."""

    x: list[sympy.Symbol]
    y: list[sympy.Symbol]
    F: sympy.Expr
    f: sympy.Expr
    G: list[sympy.Expr]
    g: list[sympy.Expr]


def formulas(row: Row) -> Formulas:
    """The texts of a row, bounds of x and y left out."""
    said = tomllib.loads((ROWS / f"{row.structure}.toml").read_text("utf-8"))[row.name]
    x, y = (
        [sympy.Symbol(f"{letter}{k + 1}", real=True) for k in range(n)]
        for letter, n in zip("xy", said["n"], strict=True)
    )
    words = {each.name: each for each in (*x, *y)} | {
        "x": np.array(x), "y": np.array(y), "i": np.arange(1, len(y) + 1), "pi": math.pi, "sum": np.sum,
        "prod": np.prod, "abs": sympy.Abs, "exp": sympy.exp, "cos": np.vectorize(sympy.cos, otypes=[object]),
        "sqrt": lambda t: t**0.5,
    }  # fmt: skip

    def read(text: str) -> sympy.Expr:
        return sympy.sympify(eval(text, dict(words)))  # our own text, from our own package

    G, g = ([read(part) for text in said.get(key, []) for part in difference(text)] for key in "Gg")
    return Formulas(x, y, read(said["F"]), read(said["f"]), G, g)


def scip(expression: sympy.Expr, values: dict[sympy.Symbol, Any]) -> Any:
    """A formula as SCIP has it."""
    if expression.is_Symbol:
        return values[expression]
    if expression.is_number:
        return float(expression)
    parts = [scip(part, values) for part in expression.args]
    if expression.is_Add:
        return pyscipopt.quicksum(parts)
    if expression.is_Mul:
        return math.prod(parts)
    if expression.is_Pow:
        base, power = parts
        return base ** (int(power) if float(power).is_integer() else power)
    named = {sympy.exp: pyscipopt.exp, sympy.cos: pyscipopt.cos, sympy.sin: pyscipopt.sin, sympy.Abs: abs}
    return named[expression.func](*parts)


def number(expression: sympy.Expr, at: dict[sympy.Symbol, float]) -> float:
    return float(expression.subs(at))


class Task:
    """The programmes of one row."""

    def __init__(self, row: Row, seconds: float) -> None:
        self.row, self.said, self.end = row, formulas(row), time.process_time() + seconds
        low, high = box(row)
        self.x_box = list(zip(low, high, strict=True))
        self.y_box = [(max(a, -WIDE), min(b, WIDE)) for a, b in zip(*row.y, strict=True)]
        self.met: list[list[float]] = []  # lower solutions so far

    def model(self, x: Sequence[float] | None = None) -> tuple[pyscipopt.Model, dict[sympy.Symbol, Any]]:
        """A model in (x, y), or in y at one x, with the lower level's constraints."""
        made = pyscipopt.Model()
        made.hideOutput()
        made.setParam("numerics/feastol", 1e-8)
        made.setParam("limits/gap", CLOSE / 10)
        made.setParam("limits/absgap", CLOSE / 100)
        made.setParam("timing/clocktype", 1)  # CPU
        made.setParam("limits/time", max(1.0, self.end - time.process_time()))
        values: dict[sympy.Symbol, Any] = {}
        for k, (symbol, (a, b)) in enumerate(zip(self.said.x, self.x_box, strict=True)):
            values[symbol] = made.addVar(symbol.name, lb=a, ub=b) if x is None else float(x[k])
        for symbol, (a, b) in zip(self.said.y, self.y_box, strict=True):
            values[symbol] = made.addVar(symbol.name, lb=a, ub=b)
        self.below(made, self.said.g, values)
        return made, values

    def below(self, made: pyscipopt.Model, expressions: list[sympy.Expr], values: dict[sympy.Symbol, Any]) -> None:
        for each in expressions:
            if isinstance(made_of := scip(each, values), float):
                made_of = made_of + 0 * made.getVars()[0]
            made.addCons(made_of <= 0)

    def least(self, made: pyscipopt.Model, goal: Any) -> tuple[float, float]:
        """The least goal that was found, and what none can be below."""
        t = made.addVar("goal", lb=None)
        made.addCons(goal - t <= 0)
        made.setObjective(t)
        made.optimize()
        if made.getStatus() == "infeasible":
            return math.inf, math.inf
        return (made.getObjVal() if made.getNSols() else math.inf), made.getDualbound()

    def fritz_john(self, made: pyscipopt.Model, values: dict[sympy.Symbol, Any]) -> None:
        """w grad f + sum z_i grad g_i = 0, z_i g_i = 0, w + sum z_i = 1; bounds of y among the rows.

        For a linear program w is 1, and strong duality, f = what its dual has, is added: it tightens the relaxation.
        """
        _, y, _, f, _, g = self.said
        affine = all(sympy.diff(each, a, b) == 0 for each in g for a in y for b in y)
        linear = affine and all(sympy.diff(f, a, b) == 0 for a in y for b in y)
        held = [each for each in g if each.free_symbols & set(y)]
        bounds = [(sign * (a - end), sign) for a, ends in zip(y, zip(*self.row.y, strict=True), strict=True)
                  for sign, end in zip((-1, 1), ends, strict=True) if math.isfinite(end)]  # fmt: skip
        held = list(dict.fromkeys([*held, *(each for each, _ in bounds)]))
        w = made.addVar("w", lb=1.0 if linear else 1 / STEEP if affine else 0.0, ub=1.0)
        z = [made.addVar(f"z{k}", lb=0.0, ub=STEEP if linear else 1.0) for k in range(len(held))]
        if linear:
            origin = dict.fromkeys(y, 0)
            dual = [z_k * scip(sympy.sympify(each.subs(origin)), values) for z_k, each in zip(z, held, strict=True)]
            made.addCons(scip(sympy.expand(f - f.subs(origin)), values) - pyscipopt.quicksum(dual) == 0)
        else:
            made.addCons(w + pyscipopt.quicksum(z) == 1)
        for a in y:
            terms = [
                z_k * scip(d, values) for z_k, each in zip(z, held, strict=True) if (d := sympy.diff(each, a)) != 0
            ]
            made.addCons(w * scip(sympy.diff(f, a), values) + pyscipopt.quicksum(terms) == 0)
        for z_k, each in zip(z, held, strict=True):
            slack = made.addVar(lb=0.0)
            made.addCons(slack + scip(each, values) == 0)
            made.addConsSOS1([z_k, slack])

    def cut(self, made: pyscipopt.Model, values: dict[sympy.Symbol, Any], z: list[float]) -> None:
        """f(x, y) <= f(x, z), or one of the rows that x enters is violated at z."""
        _, y, _, f, _, g = self.said
        at = dict(zip(y, z, strict=True))
        rows_ = [each.subs(at) for each in g]
        if any(each.is_number and float(each) > 1e-9 for each in rows_):
            return
        f_z = scip(sympy.sympify(f.subs(at)), values)
        coupled = [each for each in rows_ if not each.is_number]
        if not coupled:
            made.addCons(scip(f, values) - f_z <= 0)
            return
        choice = [made.addVar(vtype="B") for _ in range(len(coupled) + 1)]
        made.addCons(pyscipopt.quicksum(choice) >= 1)
        f_off, above = made.addVar(lb=None), made.addVar(lb=0.0)
        made.addCons(f_off == scip(f, values) - f_z)
        made.addCons(f_off <= above)
        made.addConsIndicator(above <= 0, binvar=choice[0])
        for each, b in zip(coupled, choice[1:], strict=True):
            h = made.addVar(lb=None)
            made.addCons(h == scip(each, values))
            made.addConsIndicator(-h <= 0, binvar=b)

    def rounded(self, found: Found) -> Found:
        """The point with fewer digits, if it is near, feasible without any margin and a lower solution: it is exact."""
        for digits in (0, 1, 2, 3):
            x, y = (np.round(point, digits) + 0.0 for point in (found.x, found.y))
            values = dict(zip([*self.said.x, *self.said.y], map(float, [*x, *y]), strict=True))
            ends = zip([*x, *y], [*self.x_box, *self.y_box], strict=True)
            inside = all(a - 1e-12 <= v <= b + 1e-12 for v, (a, b) in ends)
            F = float(self.said.F.subs(values))
            if abs(F - found.value) > CLOSE / 100 * (1 + abs(F)) or not inside:
                continue
            if all(float(each.subs(values)) <= 1e-12 for each in [*self.said.G, *self.said.g]):
                lower = self.answer(list(x))
                if lower is not None and float(self.said.f.subs(values)) <= lower[0] + SAME / 10 * (1 + abs(lower[0])):
                    return found._replace(value=F, x=x, y=y)
        return found

    def at_the_end(self, found: Found) -> bool:
        """Whether a solution is where a variable without a bound was not looked for any further."""
        for values, looked, owns in ((found.x, self.x_box, self.row.x), (found.y, self.y_box, self.row.y)):
            for value, ends, own in zip(values, looked, zip(*owns, strict=True), strict=True):
                if any(math.isinf(b) and abs(value - a) <= 1e-3 for a, b in zip(ends, own, strict=True)):
                    return True
        return False

    def from_below(self) -> tuple[float, list[float] | None]:
        """A bound of F from below, and the x of the point found."""
        made, values = self.model()
        self.below(made, self.said.G, values)
        self.fritz_john(made, values)
        for z in self.met:
            self.cut(made, values, z)
        _, bound = self.least(made, scip(self.said.F, values))
        return bound, [made.getVal(values[a]) for a in self.said.x] if made.getNSols() else None

    def answer(self, x: list[float]) -> tuple[float, list[float]] | None:
        """The least f at x, with a margin for what the bound leaves open, and its y."""
        made, values = self.model(x)
        value, _ = self.least(made, scip(self.said.f, values))
        return None if math.isinf(value) else (value, [made.getVal(values[a]) for a in self.said.y])

    def from_above(self, x: list[float], f_star: float) -> Found | None:
        """The least F at x among lower solutions."""
        made, values = self.model(x)
        self.below(made, self.said.G, values)
        self.fritz_john(made, values)
        made.addCons(scip(self.said.f, values) <= f_star + SAME / 2 * (1 + abs(f_star)))
        value, _ = self.least(made, scip(self.said.F, values))
        if math.isinf(value):
            return None
        y = np.array([made.getVal(values[a]) for a in self.said.y])
        exact = float(self.row.F(torch.tensor(x, dtype=torch.float64), torch.from_numpy(y)))
        if self.row.structure != "nonlinear_below":
            value_, y_ = phi(self.row, below(self.row), np.array(x))
            exact, y = (value_, y_) if abs(value_ - exact) <= 10 * CLOSE * (1 + abs(exact)) else (exact, y)
        return Found(exact, np.array(x), y, "")


def certify(row: Row, seconds: float) -> Found:
    """Bounds from both sides until they meet, or the seconds are spent."""
    task, best, bound = Task(row, seconds), Found(math.inf, np.zeros(0), np.zeros(0), ""), -math.inf
    made, met, none = 0, False, False
    while not (met or none) and made < ROUNDS and time.process_time() < task.end:
        made += 1
        found, x = task.from_below()
        bound = max(bound, found)
        if x is not None and (lower := task.answer(x)) is not None:
            task.met.append(lower[1])
            above = task.from_above(x, lower[0])
            best = above if above is not None and above.value < best.value else best
        none = bound == math.inf  # nothing is feasible
        met = abs(best.value - bound) <= CLOSE * (1 + abs(bound))
    best = task.rounded(best) if met else best
    if met and task.at_the_end(best):
        return best._replace(how=f"global: only where the search for it ends, {best.x}, {best.y}")
    how = f"global, SCIP from both sides, {made} round{'s' * (made > 1)}"
    return best._replace(how=how if met else f"{how}: only above {bound:.10g}")


def main(arguments: Sequence[str]) -> None:
    """A line for each row, and its table with --write."""
    seconds = next((float(a.split("=")[1]) for a in arguments if a.startswith("--seconds")), 60.0)
    open_ = [name for name, row in rows().items() if math.isnan(row.value)]
    for name in [a for a in arguments if not a.startswith("-")] or open_:
        row, begun = rows()[name], time.process_time()
        found = checked(row, certify(row, seconds))
        said = f"{row.stated[0]:g}" if row.stated else "-"
        spent = time.process_time() - begun
        print(f"# {name}: {found.value:.10g} by {found.how}; stated {said}: {compared(row, found)}; {spent:.1f} CPU s",
              flush=True)  # fmt: skip
        if "--write" in arguments and math.isfinite(found.value) and "only" not in found.how:
            print(f"[{name}]\nvalue = {found.value!r}")
            for letter, point in (("x", found.x), ("y", found.y)):
                print(f"{letter} = [{', '.join(repr(float(v)) for v in point)}]")
            print(f'how = "{found.how}"\n', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
