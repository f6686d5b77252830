"""The rows of BOLIB: formulas as text, read from ``bolib_rows`` into functions, bounds and constraints."""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.lower.star import Method

Function = Callable[[Tensor, Tensor], Tensor]
Bounds = tuple[tuple[float, ...], tuple[float, ...]]
ROWS = Path(__file__).with_name("bolib_rows")
STRUCTURES: dict[str, Method] = {  # a file each: how the lower level is solved
    "linear": "program",
    "linear_below": "program",
    "quadratic_below": "program",
    "one_below": "line",
    "nonlinear_below": "several",
}
WORDS: Mapping[str, Any] = {
    "exp": torch.exp, "cos": torch.cos, "sqrt": lambda t: t**0.5, "abs": torch.abs, "pi": math.pi,
    "sum": lambda terms: terms.sum(0), "prod": lambda terms: terms.prod(0),
    "count": lambda y: torch.arange(1, len(y) + 1, dtype=y.dtype, device=y.device).reshape(-1, *[1] * (y.ndim - 1)),
}  # fmt: skip
BOUND = re.compile(r"([xy])(\d+) (<=|>=|==) (-?[\d./]+)")


@dataclass(frozen=True)
class Row:
    """One problem: min F(x, y) with G(x, y) <= 0 and y in argmin {f(x, .): g(x, .) <= 0}, in the collection's names.

    n_x, n_y: lengths. F, f: formulas of x (n_x, ...) and y (n_y, ...), of shape (...). G, g: rows that couple, that
    bound y above, or that no box can say; (m, ...), None where there are none. x, y: bounds of x, of both levels, and
    of y in the lower level. structure: the key of ``STRUCTURES``. stated: the collection's own F* and f*, None where
    it has none. best_known: whether it says no more of them than that. value: F* as certified, nan where it is not;
    solution: x and y there; how: by which method. pessimistic: the least F where of several lower solutions the worst
    is taken, where that is another value, else nan. answer: y*(x) where it is one number at every x.
    """

    name: str
    structure: str
    n_x: int
    n_y: int
    F: Function
    f: Function
    G: Function | None
    g: Function | None
    x: Bounds
    y: Bounds
    stated: tuple[float, float] | None
    best_known: bool
    flags: tuple[str, ...]
    draw: tuple[float, float]
    answer: float | None
    value: float
    solution: tuple[tuple[float, ...], tuple[float, ...]] | None
    how: str
    pessimistic: float


def formula(text: str, n_x: int, n_y: int) -> Function:
    """The function that a formula writes, of x1, x2, ..., y1, ..., of x and y as wholes, and of i = 1, ..., n_y."""
    names = ", ".join([*(f"x{k + 1}" for k in range(n_x)), *(f"y{k + 1}" for k in range(n_y))])
    inner = f"(lambda {names}, i: {text})(*x, *y, {'count(y)' if re.search(r'(?<![a-z])i(?![a-z])', text) else None})"
    made: Function = eval(f"lambda x, y: {inner}", dict(WORDS))  # our own text, from our own package
    return made


def difference(text: str) -> list[str]:
    """What is to be <= 0 where the (in)equality that a text writes holds; an equality is two of them."""
    left, sign, right = re.split(r" (<=|>=|==) ", text)
    above, below = f"{left} - ({right})", f"{right} - ({left})"
    return {"<=": [above], ">=": [below], "==": [above, below]}[sign]


def stacked(texts: list[str], n_x: int, n_y: int) -> Function | None:
    """All rows of one level as one function."""
    parts = [formula(each, n_x, n_y) for text in texts for each in difference(text)]
    if not parts:
        return None
    return lambda x, y: torch.stack(torch.broadcast_tensors(*(part(x, y) for part in parts)))


def _bounds(texts: list[str], letter: str, n: int) -> tuple[Bounds, list[str]]:
    """Bounds of single variables, and the rows that are left."""
    low, high, left = [-math.inf] * n, [math.inf] * n, []
    for text in texts:
        found = BOUND.fullmatch(text)
        if found is None or found[1] != letter:
            left.append(text)
            continue
        k, value = int(found[2]) - 1, float(eval(found[4]))
        low[k] = max(low[k], value) if found[3] != "<=" else low[k]
        high[k] = min(high[k], value) if found[3] != ">=" else high[k]
    return (tuple(low), tuple(high)), left


def row(name: str, structure: str, said: Mapping[str, Any], certified: Mapping[str, Any]) -> Row:
    """A row from its table. A bound of x in the lower level is one of x: beyond it that level has no solution."""
    n_x, n_y = said["n"]
    upper, lower = list(said.get("G", [])), list(said.get("g", []))
    y, lower = _bounds(lower, "y", n_y)
    of_x = [text for text in lower if (found := BOUND.fullmatch(text)) and found[1] == "x"]
    x, upper = _bounds(upper + of_x, "x", n_x)
    lower = [text for text in lower if text not in of_x]
    solution = (tuple(certified["x"]), tuple(certified["y"])) if "x" in certified else None
    return Row(
        name, structure, n_x, n_y, formula(said["F"], n_x, n_y), formula(said["f"], n_x, n_y),
        stacked(upper, n_x, n_y), stacked(lower, n_x, n_y), x, y,
        _pair(said["stated"]) if "stated" in said else None, said.get("best_known", False),
        tuple(said.get("flags", ())), _pair(said.get("draw", (-2.0, 2.0))), said.get("answer"),
        certified.get("value", math.nan), solution, certified.get("how", ""),
        certified.get("pessimistic", math.nan),
    )  # fmt: skip


def _pair(two: Sequence[float]) -> tuple[float, float]:
    first, second = two
    return float(first), float(second)


@functools.cache
def rows() -> Mapping[str, Row]:
    """All rows by name."""
    certified = tomllib.loads((ROWS / "certified.toml").read_text("utf-8"))
    found = {}
    for structure in STRUCTURES:
        for name, said in tomllib.loads((ROWS / f"{structure}.toml").read_text("utf-8")).items():
            found[name] = row(name, structure, said, certified.get(name, {}))
    return found
