"""The optimistic values of BOLIB, found anew by methods that do not know the stated ones, and compared with those.

    python -m tests.campaigns.bolib [NAME...]           # a line each; `certified.toml` on standard output with --write

* ``branches``: where the lower level is a linear or convex quadratic program, its rows and gradient affine in
  (x, y), F convex quadratic and G affine: the optimality conditions below, branch and bound over complementary pairs.
* ``grid``: up to two x: y*(x) on a grid of x in the bounds, or in [-60, 60], by the library; then golden section or
  Nelder-Mead about the best points.
* ``search``: more x: Nelder-Mead from many starts on an exact penalty. Confidence: how many end at the best value.

Every value is then checked: x and y are feasible, g(x, y) is the least, and F is there what is said.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.lower.level import NoAnswer
from bilevelbench.lower.program import EMPTY, Program, solve
from bilevelbench.lower.star import LowerSolution
from bilevelbench.problems._bolib import STRUCTURES, Row, rows

SIBLING = "test_certified_values_are_attained"

FAR = 60.0  # how far from 0 an x without bounds is looked for
GRID = {1: 121, 2: 11}  # points of the grid along each x
ROUND = {1: np.arange(-4.0, 12.5, 0.5), 2: np.arange(-1.0, 4.5)}  # and these, where examples have their solutions
BEST = 4  # points of the grid about which it goes on
GOLDEN = (math.sqrt(5) - 1) / 2
CUTS = 48  # of a golden section
FEASIBLE = 1e-7  # of an upper constraint
STARTS = 6  # of a search


class Found(NamedTuple):
    """The least F, where, by which method, and what is to be said of it."""

    value: float
    x: np.ndarray
    y: np.ndarray
    how: str


def below(row: Row) -> LowerSolution:
    """The row's lower level."""
    low, high = (torch.tensor(side, dtype=torch.float64) for side in row.y)
    return LowerSolution(row.F, row.f, row.g, low, high, STRUCTURES[row.structure])


def phi(row: Row, solution: LowerSolution, x: np.ndarray, penalty: float = 0.0) -> tuple[float, np.ndarray]:
    """F(x, y*(x)) and y*(x); infinite where there is none or an upper constraint is violated (or at its price)."""
    point = torch.from_numpy(np.array(x, float))
    try:
        y = torch.full((row.n_y,), row.answer).double() if row.answer is not None else solution.answer(point).y
    except NoAnswer:
        return math.inf, np.full(row.n_y, math.nan)
    value = float(row.F(point, y))
    over = max(0.0, float(row.G(point, y).max())) if row.G is not None else 0.0
    if over > FEASIBLE:
        value = value + penalty * over if penalty else math.inf
    return (value if math.isfinite(value) else math.inf), y.numpy()


def box(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of x, with FAR in place of infinity."""
    low, high = (np.array(side) for side in row.x)
    return np.where(np.isfinite(low), low, -FAR), np.where(np.isfinite(high), high, FAR)


def grid(row: Row, solution: LowerSolution | None = None) -> Found:
    """The least value on a grid of x, then by golden section, or Nelder-Mead, about its best points."""
    n, solution = row.n_x, solution or below(row)
    low, high = box(row)
    axes = [np.unique(np.r_[np.linspace(a, b, GRID[n]), ROUND[n][(ROUND[n] >= a) & (b >= ROUND[n])]])
            for a, b in zip(low, high, strict=True)]  # fmt: skip
    points = [np.array(point) for point in itertools.product(*axes)]
    seen = [(*phi(row, solution, x), x) for x in points]
    price = 0.0 if any(value < math.inf for value, _, _ in seen) else 1e4
    if price:  # no point of a grid satisfies an equality above
        seen = [(*phi(row, solution, x, price), x) for x in points]
    seen = sorted(seen, key=lambda each: each[0])
    width = (high - low) / (GRID[n] - 1)

    def value(x: np.ndarray) -> float:
        return phi(row, solution, np.clip(x, low, high), price)[0]

    ends = [seen[0][2]]
    for _, _, x in _apart([each for each in seen if each[0] < math.inf], width):
        ends.append(_golden(value, x, width) if n == 1 else _simplex(value, x, width))
    x = np.clip(min(ends, key=value), low, high)
    return Found(*phi(row, solution, x, price)[:1], x, phi(row, solution, x, price)[1], "grid")


def _golden(value: Callable[[np.ndarray], float], x: np.ndarray, width: np.ndarray) -> np.ndarray:
    a, b = x - width, x + width
    for _ in range(CUTS):
        c, d = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
        at_c, at_d = value(c), value(d)
        if at_c == at_d == math.inf:  # the point that it began with lies between
            a, b = (a, d) if (x <= d).all() else (c, b)
        else:
            a, b = (a, d) if at_c <= at_d else (c, b)
    return min((a, b, (a + b) / 2, x), key=value)


def _simplex(value: Callable[[np.ndarray], float], x: np.ndarray, width: np.ndarray) -> np.ndarray:
    for size in (0.7, 0.02):  # begun again, for it may have collapsed
        corners = np.vstack([x, x + np.diag(size * width), x - size * width])[: len(x) + 1]
        x = minimize(lambda v: min(value(v), 1e9), x, method="Nelder-Mead",
                     options={"initial_simplex": corners, "maxfev": 130, "xatol": 1e-11, "fatol": 1e-13}).x  # fmt: skip
    return x


def _apart(seen: list[tuple[float, np.ndarray, np.ndarray]], width: np.ndarray):
    chosen: list[tuple[float, np.ndarray, np.ndarray]] = []
    for each in seen:
        if all((np.abs(each[2] - other[2]) > 2 * width).any() for other in chosen):
            chosen.append(each)
        if len(chosen) == BEST:
            break
    return chosen


def search(row: Row) -> Found:
    """Nelder-Mead on F(x, y*(x)) with an exact penalty, from many starts, each begun again from its end."""
    solution, rng = below(row), np.random.default_rng(0)
    low, high = box(row)
    low, high = np.maximum(low, -20), np.minimum(high, 20)
    ends = []
    for _ in range(STARTS):
        x = rng.uniform(low, high)
        for _ in range(2):
            x = minimize(
                lambda v: min(phi(row, solution, np.clip(v, *box(row)), 1e3)[0], 1e12), x, method="Nelder-Mead",
                options={"maxfev": 60 * row.n_x, "xatol": 1e-10, "fatol": 1e-12, "adaptive": True},
            ).x  # fmt: skip
            x = np.clip(x, *box(row))
        value, y = phi(row, solution, x, 1e3)
        ends.append((value, x, y))
    value, x, y = min(ends, key=lambda each: each[0])
    same = sum(other <= value + 1e-4 * (1 + abs(value)) for other, _, _ in ends)
    return Found(value, x, y, f"search, {same} of {STARTS} starts")


def branches(row: Row) -> Found | None:
    """The least F under the optimality conditions of a program below, by branch and bound over complementary pairs.

    Exact for lower levels whose rows and gradient are affine in (x, y), and convex quadratic F under affine G; None for
    others. In v = (x, y, z): grad_y f + A'z = 0, rows <= 0, z >= 0, and of each pair z_i, row_i one is 0.
    """
    n, m = row.n_x, row.n_y
    level = below(row).level
    slope = affine_map(lambda v: derive.grad_y(level.g, v[:n], v[n:]), n + m)
    rows_ = affine_map(lambda v: level.rows(v[:n], v[n:]), n + m)
    G = (np.zeros((0, n + m)), np.zeros(0)) if row.G is None else affine_map(lambda v: row.G(v[:n], v[n:]), n + m)
    F = affine_map(lambda v: torch.cat(derive.grad(row.F, v[:n], v[n:])), n + m)
    if slope is None or rows_ is None or G is None or F is None or np.linalg.eigvalsh(F[0])[0] < -1e-9:
        return None
    (R, r), (S, s), k = rows_, slope, len(rows_[1])
    S = np.hstack([S, R[:, n:].T])
    unit, wide = np.eye(n + m + k), np.zeros((1, k))
    x_rows = [(sign * unit[i], sign * end) for i in range(n) for sign, end in ((-1, row.x[0][i]), (1, row.x[1][i]))]
    x_rows = [(a, b) for a, b in x_rows if math.isfinite(b)]
    A = np.vstack([np.hstack([R, np.repeat(wide, k, 0)]), np.hstack([G[0], np.repeat(wide, len(G[1]), 0)]), S, -S,
                   -unit[n + m :], *(a for a, _ in x_rows)])  # fmt: skip
    b = np.r_[-r, -G[1], -s, s, np.zeros(k), [b for _, b in x_rows]]
    H = np.zeros((n + m + k, n + m + k))
    H[: n + m, : n + m] = F[0]
    c = np.r_[F[1], np.zeros(k)]
    best, at, open_nodes, visited = math.inf, None, [((), ())], 0
    while open_nodes:
        active, idle = open_nodes.pop()
        visited += 1
        fixed = np.vstack([-A[list(active)].reshape(-1, len(c)), unit[n + m :][list(idle)].reshape(-1, len(c))])
        program = Program(H, c, np.vstack([A, fixed]), np.r_[b, -b[list(active)], np.zeros(len(idle))])
        try:
            v, _ = solve(program)
        except NoAnswer as error:
            if str(error) == EMPTY:
                continue
            v = None
        if v is not None:
            value = 0.5 * v @ H @ v + c @ v
            both = np.minimum(v[n + m :], -(R @ v[: n + m] + r))
            if value >= best - 1e-9 * (1 + abs(best)):
                continue
            both[[*active, *idle]] = 0.0
            if both.max(initial=0.0) <= 1e-7:
                best, at = value, v
                continue
            worst = int(both.argmax())
        else:
            left = [i for i in range(k) if i not in active and i not in idle]
            if not left:
                return Found(-math.inf, np.full(n, math.nan), np.full(m, math.nan), "branches: unbounded")
            worst = left[0]
        open_nodes += [(active, (*idle, worst)), ((*active, worst), idle)]
    if at is None:
        return Found(math.inf, np.full(n, math.nan), np.full(m, math.nan), f"branches: none of {visited} nodes")
    x, y = torch.from_numpy(at[:n]), torch.from_numpy(at[n : n + m])
    return Found(float(row.F(x, y)), at[:n], at[n : n + m], "branches")


def affine_map(function: Callable[[Tensor], Tensor], n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """J and the value at 0 of an affine function of n numbers; None where it is not affine."""
    origin = torch.zeros(n, dtype=torch.float64)
    value = function(origin)
    J = torch.stack([function(unit) - value for unit in torch.eye(n, dtype=torch.float64)], 1)
    for k in range(3):
        away = torch.from_numpy(np.random.default_rng(k).uniform(-1, 1, n))
        off = (function(away) - value - J @ away).abs()
        if not bool((off <= 1e-9 * (1 + value.abs())).all()):
            return None
    return J.numpy(), value.numpy()


def certify(row: Row) -> Found:
    """The least F of a row by the method that fits it."""
    found = branches(row) if STRUCTURES[row.structure] == "program" else None
    return found or (grid(row) if row.n_x <= 2 else search(row))


def checked(row: Row, found: Found) -> Found:
    """What was found, or nothing where it violates an upper constraint, as at an isolated x that no grid meets."""
    if not math.isfinite(found.value) or row.G is None:
        return found
    over = float(row.G(torch.from_numpy(found.x), torch.from_numpy(found.y)).max())
    return found if over <= 1e-6 else found._replace(value=math.inf)


def compared(row: Row, found: Found) -> str:
    """One word: what the stated value is against the found one."""
    if not math.isfinite(found.value):
        return "nothing found"
    if row.stated is None:
        return "none stated"
    off, digits = row.stated[0] - found.value, 2e-3 * (1 + abs(found.value))
    return "agrees" if abs(off) <= digits else "stated is worse" if off > 0 else "stated is better"


def main(names: Sequence[str]) -> None:
    """Certify rows and print a line each, and their table with --write."""
    chosen = [name for name in names if not name.startswith("-")] or list(rows())
    torch.set_num_threads(1)
    for name in chosen:
        row, begun = rows()[name], time.process_time()
        found = checked(row, certify(row))
        seconds = time.process_time() - begun
        said = f"{row.stated[0]:g}" if row.stated else "-"
        print(
            f"# {name}: {found.value:.10g} by {found.how}; stated {said}: {compared(row, found)}; {seconds:.1f} CPU s"
        )
        if "--write" in names and math.isfinite(found.value):
            print(f"[{name}]\nvalue = {found.value!r}")
            for letter, point in (("x", found.x), ("y", found.y)):
                print(f"{letter} = [{', '.join(repr(float(v)) for v in point)}]")
            print(f'how = "{found.how}"\n', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
