"""Linear and convex quadratic programs: min y'Hy/2 + c'y with A y <= b. HiGHS solves the linear ones, Clarabel others.

Both are solved to about 1e-9; what is active is then solved for exactly, as a linear system.
"""

from __future__ import annotations

from typing import NamedTuple

import clarabel
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_matrix

from .level import FEASIBLE, NoAnswer

Array = np.ndarray
EMPTY = "the lower level has no feasible y at this x"
ENDLESS = "g(x, .) falls without bound on the lower level's feasible set at this x"


class Program(NamedTuple):
    """min y'Hy/2 + c'y subject to A y <= b; H (n, n) symmetric, positive semidefinite, c (n,), A (m, n), b (m,)."""

    H: Array
    c: Array
    A: Array
    b: Array

    @property
    def scale(self) -> Array:
        """What the rows' violations are measured in, shape (m,)."""
        return 1.0 + np.abs(self.b)


def solve(program: Program) -> tuple[Array, Array]:
    """A solution y (n,) and its multipliers (m,). Raises NoAnswer where the program is infeasible or unbounded."""
    if not len(program.b):
        return _free(program), np.zeros(0)
    if not program.H.any():
        return _linear(program)
    y, z = _quadratic(program)
    return _exact(program, y, z)


def _free(program: Program) -> Array:
    y: Array = np.linalg.lstsq(program.H, -program.c, rcond=None)[0]
    if np.abs(program.H @ y + program.c).max(initial=0.0) > FEASIBLE * (1 + np.abs(program.c).max(initial=0.0)):
        raise NoAnswer(ENDLESS)
    return y


def _linear(program: Program) -> tuple[Array, Array]:
    found = linprog(program.c, program.A, program.b, bounds=(None, None), method="highs-ds")
    if found.status == 4:  # presolve cannot tell infeasible from unbounded: without a cost it is one or the other
        feasible = linprog(0 * program.c, program.A, program.b, bounds=(None, None), method="highs-ds").status == 0
        raise NoAnswer(ENDLESS if feasible else EMPTY)
    if found.status in (2, 3):
        raise NoAnswer(EMPTY if found.status == 2 else ENDLESS)
    if found.status:
        raise NoAnswer(f"HiGHS does not solve the lower level at this x: {found.message}")
    return found.x, -found.ineqlin.marginals


def _quadratic(program: Program) -> tuple[Array, Array]:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cones = [clarabel.NonnegativeConeT(len(program.b))]
    upper = csc_matrix(np.triu(program.H))
    found = clarabel.DefaultSolver(upper, program.c, csc_matrix(program.A), program.b, cones, settings).solve()
    status = str(found.status)
    if "PrimalInfeasible" in status:
        raise NoAnswer(EMPTY)
    if "DualInfeasible" in status:
        raise NoAnswer(ENDLESS)
    y, z = np.array(found.x), np.array(found.z)
    if "Solved" not in status and not (program.A @ y - program.b <= 1e-6 * program.scale).all():
        raise NoAnswer(f"Clarabel does not solve the lower level at this x: {status}")
    return y, z


def _exact(program: Program, y: Array, z: Array) -> tuple[Array, Array]:
    """The solution with the same active rows, to rounding; what came in where those were not told apart rightly."""
    n = len(y)
    active = z > np.maximum(program.b - program.A @ y, FEASIBLE)
    held = program.A[active]
    matrix = np.block([[program.H, held.T], [held, np.zeros((len(held), len(held)))]])
    found = np.linalg.lstsq(matrix, np.r_[-program.c, program.b[active]], rcond=None)[0]
    # of many solutions, for H is singular, the one nearest to what came in
    shift = np.linalg.lstsq(matrix, matrix @ (np.r_[y, z[active]] - found), rcond=None)[0]
    found += np.r_[y, z[active]] - found - shift
    fine, multipliers = found[:n], np.zeros_like(z)
    multipliers[active] = found[n:]
    right = (program.A @ fine - program.b <= FEASIBLE * program.scale).all() and (multipliers >= -FEASIBLE).all()
    return (fine, np.maximum(multipliers, 0)) if right else (y, np.where(active, z, 0.0))
