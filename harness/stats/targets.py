"""Targets are outcomes, several for each problem, and count where they are held: what it costs to get there.

Of Phi: the distance to the best value known, down to 10^-k of that of the start. Where Phi* is known k = 1, 2, 3, 4, 6,
8; where a reference is, the best value that a long search has found, k = 1, 2, 3. Where Phi does not depend on x at
all, the distance of y from y*, if the problem gives it. Of the problem's own figures: better than the hardest line of
its ``bar``, or as good as its ``target``. The norm of the hypergradient is a diagnostic and never a target: it is small
wherever Phi is flat. A problem with none of these sets no target and decides nothing.

A target is held from the first look that meets it on if no later look is above twice the target; of own figures, whose
best value nobody knows, if none falls back below half of the way from the start. A run that ended as error, diverged or
oom holds nothing. One that timed out holds what it held then. A start that is there already gives nothing to anybody.
Unsolved costs infinity and stays in the denominator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bilevelbench.store.aims import DECADES, HALF, NOTHING, REACHED, SLACK
from bilevelbench.store.looks import Looks as Stored
from bilevelbench.store.schema import FAILED

COSTS = {"calls": "total_calls", "rows": "total_rows", "passes": "passes", "grads": "grads", "seconds": "seconds"}
COLUMNS = ("run", "problem", "family", "solver", "seed", "measure", "target", *COSTS, "passed", "unjudged")


def not_run(runs: pd.DataFrame) -> pd.Series:
    """Which runs say nothing about their solver and are in no denominator: those that are unsupported, and those that
    did not end well through no fault of the solver's."""
    failed = runs["status"].isin(FAILED)
    return (runs["status"] == "unsupported") | (failed & (runs["fault"] != "solver") if "fault" in runs else False)


class Looks(NamedTuple):
    """Looks by run, then by step, and for each run where its looks begin and which instance it is of."""

    table: pd.DataFrame
    begins: np.ndarray
    run: np.ndarray  # place in the table of runs, for each run that has looks
    instance: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A value for each run, at each of its looks."""
        return values.repeat(np.diff(np.r_[self.begins, len(self.table)]))

    def column(self, name: str) -> np.ndarray:
        """A column as numbers, of NaN where there is none."""
        return self.table[name].to_numpy(float) if name in self.table else np.full(len(self.table), np.nan)


class Aim(NamedTuple):
    """A target: how far each look is, as a share of the way there is from the start; how near is near enough; what is
    no longer held; which looks are judged well enough to tell; which runs have this target."""

    target: str
    measure: str
    left: np.ndarray
    near: float
    slack: float
    sure: np.ndarray
    has: np.ndarray
    strict: bool = False


def hits(runs: pd.DataFrame, looks: pd.DataFrame) -> pd.DataFrame:
    """One row per run and target: what the first look cost from which on it is held, infinity where it is not.

    Columns: run, problem, family, solver, seed, measure, target, calls, rows, passes, grads (gradient equivalents; NaN
    where prices are not known), seconds; passed: some look met it, and it was not held; unjudged: the answer
    hangs on a look that could not be judged. Runs that say nothing about their solver (``not_run``) and instances
    without targets have no rows.
    """
    counted = runs[~not_run(runs)].reset_index(drop=True)
    seen = _sorted(counted, looks)
    tables = [_held(counted, seen, aim) for aim in _aims(counted, seen)] if len(seen.table) else []
    if not tables:
        kinds = dict.fromkeys(COSTS, float) | {"seed": int, "passed": bool, "unjudged": bool}
        return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, object)) for name in COLUMNS})
    return pd.concat(tables).sort_values("place", kind="stable", ignore_index=True)[list(COLUMNS)]


def of(runs: pd.DataFrame, stored: Stored) -> pd.DataFrame:
    """The same from the looks of one problem at a time: no target hangs on two."""
    tables = [hits(own, stored.of(str(problem))) for problem, own in runs.groupby("problem", sort=False)]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _sorted(runs: pd.DataFrame, looks: pd.DataFrame) -> Looks:
    where = dict(zip(runs["run"], range(len(runs)), strict=True))
    codes, names = pd.factorize(looks["run"])
    place = np.array([where.get(name, np.nan) for name in names], float)[codes]
    known = np.flatnonzero(np.isfinite(place))
    order = known[np.lexsort((looks["step"].to_numpy(float)[known], place[known]))]
    own = place[order].astype(int)
    begins = np.flatnonzero(np.diff(own, prepend=-1))
    return Looks(looks.take(order), begins, own[begins], instances(runs)[own[begins]])


def instances(runs: pd.DataFrame) -> np.ndarray:
    """A number for each run that says which problem and seed it is of."""
    return runs.groupby(["problem", "seed"], sort=True, observed=True).ngroup().to_numpy()


def _starts(seen: Looks, value: np.ndarray) -> np.ndarray:
    """For each run the value of the start that it shares: the median over those that could be judged there."""
    first = pd.Series(value[seen.begins])
    return first.where(np.isfinite(first)).groupby(seen.instance).transform("median").to_numpy(float)


def _aims(runs: pd.DataFrame, seen: Looks) -> Iterator[Aim]:
    problem = runs["problem"].to_numpy(object)[seen.run]
    chosen = np.zeros(len(problem), bool)
    phi = np.abs(_starts(seen, seen.column("phi")))
    phi = np.where(phi > 0, phi, 1.0)
    for measure, decades in DECADES.items():
        best = _of(runs, "reference", seen) if measure == "phi" else np.zeros(len(problem))
        value = seen.column(measure) - seen.spread(best)
        start = _starts(seen, value)
        has = (start > REACHED * (1.0 if measure == "distance" else phi)) & ~chosen
        chosen |= pd.Series(has).groupby(problem).transform("any").to_numpy()  # of one problem there is one measure
        if has.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                left = value / seen.spread(start)
                wrong = np.nan_to_num(seen.column("phi_error")) / seen.spread(start)
            for k in decades:
                sure = np.isfinite(left) & ((measure == "distance") | (wrong <= 10.0**-k))
                yield Aim(f"{measure} 1e-{k}", measure, left, 10.0**-k, SLACK * 10.0**-k, sure, has)
    yield from _own_figures(runs, seen)


def _own_figures(runs: pd.DataFrame, seen: Looks) -> Iterator[Aim]:
    """The targets that problems set on their own figures: ``aims`` of a run is {figure: (value, better, kind)}."""
    own: list[dict[str, tuple[float, str, str]]] = list(runs["aims"]) if "aims" in runs else []
    for figure, better, kind in sorted({(name, *said[1:]) for aims in own for name, said in aims.items()}):
        said = [aims.get(figure, (np.nan, "", "")) for aims in own]
        goal = np.array([value if (way, whose) == (better, kind) else np.nan for value, way, whose in said])
        goal, value = goal[seen.run], seen.column(figure)
        start = _starts(seen, value)
        has = goal > start if better == "higher" else goal < start
        if has.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                left = (seen.spread(goal) - value) / seen.spread(goal - start)
            yield Aim(f"{figure} {kind}", figure, left, 0.0, HALF, np.isfinite(left), has, strict=kind == "bar")


def _of(runs: pd.DataFrame, column: str, seen: Looks) -> np.ndarray:
    """A number that runs of one instance share, for each run that has looks; NaN where none has it."""
    if column not in runs:
        return np.full(len(seen.run), np.nan)
    return runs[column].astype(float).groupby(instances(runs)).transform("first").to_numpy(float)[seen.run]


def _held(runs: pd.DataFrame, seen: Looks, aim: Aim) -> pd.DataFrame:
    """What each run of an instance that has the target pays to hold it."""
    n, begins = len(seen.table), seen.begins
    place = np.arange(n)
    sure = aim.sure & (seen.table["status"] != "diverged").to_numpy()
    met = sure & ((aim.left < aim.near) if aim.strict else (aim.left <= aim.near))
    last = np.maximum.reduceat(np.where(sure & (aim.left > aim.slack), place, -1), begins)
    first = np.minimum.reduceat(np.where(met & (place > seen.spread(last)), place, n), begins)
    reasons = (seen.table["unjudged"] != "").to_numpy() if "unjudged" in seen.table else np.zeros(n, bool)
    blind = reasons & ~sure | np.isfinite(aim.left) & ~aim.sure
    ends = np.r_[begins[1:], n] - 1
    found = pd.DataFrame({"place": np.arange(len(runs)), "at": n, "met": False, "blind": False}).set_index("place")
    found.loc[seen.run, "at"] = first
    found.loc[seen.run, "met"] = np.logical_or.reduceat(met, begins)
    found.loc[seen.run, "blind"] = np.where(first < n, blind[ends], np.logical_or.reduceat(blind, begins))
    nothing = runs["status"].isin(NOTHING).to_numpy()
    held = (found["at"] < n).to_numpy() & ~nothing
    table = runs[["run", "problem", "family", "solver", "seed"]].assign(
        place=found.index, measure=aim.measure, target=aim.target,
        passed=found["met"].to_numpy() & ~held, unjudged=found["blind"].to_numpy() & ~nothing,
    )  # fmt: skip
    for name, column in COSTS.items():
        value = seen.column(column)
        table[name] = np.where(held, value[np.minimum(found["at"].to_numpy(), n - 1)], np.inf)
        unknown = ~np.maximum.reduceat(np.isfinite(value), begins)
        table.loc[seen.run[unknown], name] = np.nan
    concerned = np.isin(instances(runs), seen.instance[aim.has])
    return table[concerned]


def costs(hit: pd.DataFrame, by: str) -> pd.DataFrame:
    """Median over seeds of the cost to each target (column ``cost``), infinity where the median run never gets there.

    One row per problem, target and solver. ``by`` is one of ``COSTS``.
    """
    return hit.dropna(subset=[by]).groupby(["problem", "target", "solver"])[by].agg(median).rename("cost").reset_index()


def median(values: pd.Series | np.ndarray) -> float:
    """The median of numbers that may be infinite; between a finite and an infinite one it is infinite."""
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    if n == 0:
        return float("nan")
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    return float(low if low == high else (low + high) / 2)


def ratios_to_best(cost: pd.DataFrame) -> pd.DataFrame:
    """``cost`` with ``ratio``: over the least cost of any solver at that target; rows of targets that nobody met go."""
    best = cost.groupby(["problem", "target"])["cost"].transform("min")
    return cost.assign(ratio=cost["cost"] / best)[np.isfinite(best)]
