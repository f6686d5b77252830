"""Solvers compared on the same instances: ratios of cost, how sure they are, and who leads.

What a solver pays on an instance is the geometric mean of its costs over the targets, where one that it does not hold
costs ten times the budget (the most that any solver spent there). A target that nobody holds tells nothing and is left
out. Calls are what is counted; where rows of data are the budget, rows. Families of problems weigh alike, problems
within a family, instances within a problem, targets within an instance. Two solvers are compared on the instances that
both took. The lead is who is cheaper than everybody by more than a tenth; anything less is a tie.

*Intervals* are for other instances of the same problems: Student's, of the weighted mean over
problems (Satterthwaite's degrees of freedom). A problem on which the seed changes nothing adds no variance; one that
has a single instance, though there could be others, gets the pooled variance of the rest; where the variance would hang
on fewer than four differences (as of five instances of one problem) there is no interval.

*The lead* is tried on other families, problems and instances: a bootstrap that draws families, problems within them and
instances within these, each time one fewer than there are (so that the variance of a mean of few is not too small:
McCarthy and Snowden 1985). A winner is named where the lead is kept in 95 of 100 resamples, of five instances or more.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

UNSOLVED = 10.0  # times the budget
MARGIN = 1.1  # ratios of cost nearer to 1 are ties
SURE = 0.95  # of the resamples in which a winner leads
LEAST = 5  # instances without which nobody is named
RESAMPLES = 2000
TAKEN = 0.5  # of the weight that a solver must have taken part in to lead

Ratio = tuple[float, float, float]  # and its interval, of NaN where there is none


class Instances(NamedTuple):
    """Problems and seeds with targets: what each belongs to, and whether the seed changes nothing there."""

    table: pd.DataFrame  # problem, seed, family, fixed
    weight: np.ndarray

    def centre(self, values: np.ndarray) -> np.ndarray:
        """The weighted means of the columns of (instances, columns), over what is there; NaN where nothing is."""
        has = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.weight @ np.where(has, values, 0) / (self.weight @ has))

    def mean(self, values: np.ndarray, level: float = SURE) -> Ratio:
        """The weighted mean of a number for each instance, NaN where there is none, with its interval."""
        has = np.isfinite(values)
        if not has.any():
            return float("nan"), float("nan"), float("nan")
        weight = np.where(has, self.weight, 0) / self.weight[has].sum()
        found = float(weight[has] @ values[has])
        spread = _error(
            self.table["problem"].to_numpy()[has], self.table["fixed"].to_numpy()[has], values[has], weight[has]
        )
        if spread is None:
            return found, float("nan"), float("nan")
        error, freedom = spread
        reach = error * float(stats.t.ppf(0.5 + level / 2, freedom)) if error > 0 else 0.0
        return found, found - reach, found + reach


def _error(
    problem: np.ndarray, fixed: np.ndarray, values: np.ndarray, weight: np.ndarray
) -> tuple[float, float] | None:
    """The standard error of a weighted mean over strata, and its degrees of freedom."""
    strata = pd.DataFrame({"p": problem, "f": fixed, "v": values, "w": weight}).groupby("p", sort=False)
    n, variance = strata["v"].count().to_numpy(), strata["v"].var().to_numpy()
    still, share = strata["f"].all().to_numpy(), strata["w"].sum().to_numpy()
    several = (n > 1) & ~still
    free = (n[several] - 1).sum()
    if free < LEAST - 1:
        return (0.0, 1.0) if still.all() else None
    pooled = float(((n[several] - 1) * variance[several]).sum() / free)
    terms = np.where(still, 0.0, share**2 * np.where(several, variance, pooled) / n)
    degrees = np.where(several, n - 1, free)
    total = float(terms.sum())
    return float(np.sqrt(total)), total**2 / float((terms**2 / degrees).sum()) if total > 0 else 1.0


def instances(hit: pd.DataFrame, runs: pd.DataFrame, families: Mapping[str, float] | None = None) -> Instances:
    """The instances behind a table of targets. ``families``: weights other than 1; those of weight 0 take no part."""
    table = hit[["family", "problem", "seed"]].drop_duplicates().sort_values(["family", "problem", "seed"])
    still = set(runs.loc[~runs["seeded"].astype(bool), "problem"]) if "seeded" in runs else set()
    table = table.assign(fixed=table["problem"].isin(still))
    asked = table["family"].map(lambda name: float((families or {}).get(name, 1.0))).astype(float)  # of none, too
    table = table[asked > 0].reset_index(drop=True)
    asked = asked[asked > 0].reset_index(drop=True)
    problems = table.groupby("family")["problem"].transform("nunique")
    weight = asked / problems / table.groupby(["family", "problem"])["seed"].transform("count")
    return Instances(table, (weight / weight.sum()).to_numpy(float) if len(table) else np.zeros(0))


class Field:
    """What every solver paid on every instance, by calls, grads or seconds.

    Attributes
    ----------
    solvers : list of str
    unit : str
        What is counted: ``by``, or "rows" where these are the budget, or "calls or rows".
    log : (instances, solvers) array
        Logarithm of what was paid; NaN where a solver took no part.
    """

    def __init__(
        self, hit: pd.DataFrame, runs: pd.DataFrame, by: str, families: Mapping[str, float] | None = None,
        resamples: int = RESAMPLES,
    ) -> None:  # fmt: skip
        hit, runs, self.unit = _in_unit(hit.dropna(subset=[by]), runs, by)
        hit = hit[np.isfinite(hit.groupby(["problem", "seed", "target"])[by].transform("min"))]
        self.of, self.by, self.resamples = instances(hit, runs, families), by, resamples
        self.solvers = sorted(hit["solver"].unique())
        keys = ["problem", "seed"]
        spent = runs.groupby(keys, observed=True)[by].max().astype(float).rename("budget")
        paid = hit.merge(spent, left_on=keys, right_index=True, how="left")
        paid["paid"] = np.where(np.isfinite(paid[by]), paid[by], UNSOLVED * paid["budget"])
        paid["paid"] = np.log(np.maximum(paid["paid"], paid["budget"] * 1e-9))
        wide = paid.pivot_table(index=keys, columns="solver", values="paid", aggfunc="mean")
        order = pd.MultiIndex.from_frame(self.of.table[keys])
        self.log = wide.reindex(index=order, columns=self.solvers).to_numpy(float)

    def over(self, one: str, other: str) -> np.ndarray:
        """Log of what another paid over what one paid, for each instance: above 0 where the one is cheaper."""
        return np.asarray(self.log[:, self.solvers.index(other)] - self.log[:, self.solvers.index(one)])

    def ratio(self, one: str, other: str) -> Ratio:
        """What another pays over what one pays, with its 95 % interval."""
        found, low, high = np.exp(self.of.mean(self.over(one, other)))
        return float(found), float(low), float(high)

    def against_field(self, one: str, others: Collection[str] | None = None) -> Ratio:
        """What the others pay, the geometric mean of all or of some, over what one pays."""
        others = [s for s in self.solvers if s != one and (others is None or s in others)]
        if not others:
            return (float("nan"),) * 3
        over = np.ma.masked_invalid(np.stack([self.over(one, s) for s in others]))
        found, low, high = np.exp(self.of.mean(over.mean(axis=0).filled(np.nan)))
        return float(found), float(low), float(high)

    @cached_property
    def taken(self) -> np.ndarray:
        """The weight of the instances that each solver took part in."""
        return np.asarray(self.of.weight @ np.isfinite(self.log))

    @cached_property
    def draws(self) -> np.ndarray:
        """(resamples, instances): weights of the instances in each resample."""
        table, rng = self.of.table, np.random.default_rng(0)
        weight = np.tile(self.of.weight, (self.resamples, 1))
        levels = [
            np.zeros(len(table), int),
            _codes(table, ["family"]),
            _codes(table, ["family", "problem"]),
            np.arange(len(table)),
        ]
        for outer, inner in itertools.pairwise(levels):
            for group in np.unique(outer):
                own = inner[outer == group]
                weight[:, outer == group] *= _drawn(rng, self.resamples, np.unique(own), own)
        return weight

    def leads(self, one: str, factor: float = MARGIN) -> np.ndarray:
        """(resamples, solvers): where one is cheaper than each other by more than a factor; true for itself."""
        k = self.solvers.index(one)
        if self._means is not None:
            mean = self._means - self._means[:, [k]]
        else:
            apart = self.log - self.log[:, [k]]
            both = np.isfinite(apart)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = self.draws @ np.where(both, apart, 0) / (self.draws @ both)
        ahead = mean > np.log(factor)
        ahead[:, k] = True
        return np.asarray(ahead)

    @cached_property
    def _means(self) -> np.ndarray | None:
        """(resamples, solvers): means of ``log``, once for all pairs where each solver took part in each instance."""
        if not np.isfinite(self.log).all():
            return None
        return np.asarray(self.draws @ self.log / self.draws.sum(axis=1, keepdims=True))


def _in_unit(hit: pd.DataFrame, runs: pd.DataFrame, by: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Targets and runs with rows in the place of calls where rows are the budget, and what the unit then is."""
    if by != "calls" or "unit" not in runs:
        return hit, runs, by
    rows = set(runs.loc[runs["unit"] == "rows", "problem"])
    hit, runs = (t.assign(calls=t["calls"].where(~t["problem"].isin(rows), t["rows"])) for t in (hit, runs))
    kinds = {"rows" if problem in rows else "calls" for problem in hit["problem"].unique()}
    return hit, runs, " or ".join(sorted(kinds)) or by


def _codes(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return table.groupby(columns, sort=True).ngroup().to_numpy()


def _drawn(rng: np.random.Generator, resamples: int, parts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """How often each part is drawn, one fewer draws than there are parts, scaled to a mean of 1."""
    n = len(parts)
    if n < 2:
        return np.ones((resamples, len(own)))
    times = rng.multinomial(n - 1, np.full(n, 1 / n), size=resamples) * n / (n - 1)
    return times[:, np.searchsorted(parts, own)]


class Standing(NamedTuple):
    """Who leads: ``winner`` is empty where nobody keeps the lead, ``among`` are then those who may."""

    winner: str
    among: list[str]
    lead: dict[str, float]  # share of the resamples in which each solver leads
    instances: int
    families: int


def standing(field: Field) -> Standing:
    """Who leads a field of solvers, and how surely."""
    table = field.of.table
    able = [s for s, taken in zip(field.solvers, field.taken, strict=True) if taken >= TAKEN]
    columns = [field.solvers.index(s) for s in able]
    ahead = {s: field.leads(s)[:, columns] for s in able}
    lead = {s: float(np.mean(ahead[s].all(axis=1))) for s in able}
    counts = len(table), table["family"].nunique()
    if len(able) < 2:
        return Standing("", able, lead, *counts)
    first = cheapest(field, able)
    among = [s for k, s in enumerate(able) if s == first or ahead[first][:, k].mean() < SURE]
    named = lead[first] >= SURE and len(table) >= LEAST
    return Standing(first if named else "", [first] if named else sorted(among), lead, *counts)


def cheapest(field: Field, able: list[str]) -> str:
    """Whose least advantage over any other is the largest: cheaper than each, where anybody is."""
    columns = [field.solvers.index(s) for s in able]

    def least(one: str) -> float:
        over = field.of.centre(field.log - field.log[:, [field.solvers.index(one)]])
        others = [over[k] for k in columns if field.solvers[k] != one]
        return -np.inf if np.isnan(others).any() else min(others, default=0.0)

    return max(sorted(able), key=least)
