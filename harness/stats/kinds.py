"""Which solver for which kind of problem: what the rows say of each kind, and where they say nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from .compare import Comparison
from .paired import LEAST, Field, cheapest, standing

MANY = 100  # variables
COLUMNS = (
    "kind", "solver", "leads", "among", "cost", "low", "high", "lead", "share", "vectors", "problems", "families",
    "instances",
)  # fmt: skip


class Kind(NamedTuple):
    """A kind of problem. ``of``: whether a problem is one, by what its header says of it."""

    name: str
    words: str
    of: Callable[[Mapping[str, Any]], bool]


def _flags(about: Mapping[str, Any], *names: str) -> bool:
    return bool(set(about.get("flags") or ()) & set(names))


def _bound(about: Mapping[str, Any]) -> bool:
    return bool(about.get("constraints")) or _flags(about, "boundary", "kinked")


def _convex(about: Mapping[str, Any]) -> bool:
    return _flags(about, "strongly_convex") and not _bound(about) and not _flags(about, "once")


KINDS = (
    Kind("small", f"strongly convex below, up to {MANY} lower variables",
         lambda p: _convex(p) and (p.get("n_y") or 0) <= MANY),
    Kind("large", f"strongly convex below, more than {MANY} lower variables",
         lambda p: _convex(p) and (p.get("n_y") or 0) > MANY),
    Kind("many upper", f"more than {MANY} upper variables", lambda p: (p.get("n_x") or 0) > MANY),
    Kind("rows", "finite sums, which can be asked for in minibatches", lambda p: (p.get("n_g") or 1) > 1),
    Kind("several solutions", "several lower solutions for one x", lambda p: _flags(p, "multi_valued")),
    Kind("nonconvex", "nonconvex below", lambda p: _flags(p, "nonconvex")),
    Kind("constrained", "bounds or constraints that bind below, or couple x and y", _bound),
    Kind("once", "differentiable once: no second derivative below", lambda p: _flags(p, "once")),
)  # fmt: skip


def kinds_of(about: Mapping[str, Any]) -> list[Kind]:
    """The kinds that a problem is of, by what its header says of it."""
    return [kind for kind in KINDS if kind.of(about)]


def advice(
    runs: pd.DataFrame, hit: pd.DataFrame, found: Comparison, abouts: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """For each kind of problem the solvers that took part in half of it or more, cheapest first.

    Columns: kind, solver; leads: whether it is named winner of the kind; among: whether it may lead, for all that the
    resamples say; cost: calls for the same targets over those of the first, with its 95 % interval low and high; lead:
    share of the resamples in which it leads; share: of the targets that it holds; vectors: its peak memory in vectors
    of the size of y; problems, families, instances: what it rests on. Kinds without five instances have no rows:
    nothing is known of them. ``abouts``: what the header says of each problem.
    """
    tables = []
    memory = dict(zip(found.leaders["solver"], found.leaders["vectors"], strict=True))
    for kind in KINDS:
        own = {problem for problem, about in abouts.items() if kind.of(about)}
        rows = hit[hit["problem"].isin(own)]
        if len(rows[["problem", "seed"]].drop_duplicates()) >= LEAST:
            tables.append(_ranked(kind, runs, rows, found, memory))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _ranked(
    kind: Kind, runs: pd.DataFrame, hit: pd.DataFrame, found: Comparison, memory: Mapping[str, float]
) -> pd.DataFrame:
    field = Field(hit, runs, "calls", found.weights)
    if not len(field.of.table):
        return pd.DataFrame(columns=list(COLUMNS))
    now = standing(field)
    if not now.lead:  # nobody took part in half of it
        return pd.DataFrame(columns=list(COLUMNS))
    held = hit.assign(held=hit["calls"].lt(float("inf"))).groupby("solver")["held"].mean()
    first = now.winner or cheapest(field, list(now.lead))
    base = {"problems": field.of.table["problem"].nunique(), "families": now.families, "instances": now.instances}
    rows = []
    for solver in now.lead:
        cost, low, high = field.ratio(first, solver)
        rows.append(
            {"kind": kind.name, "solver": solver, "leads": solver == now.winner, "among": solver in now.among,
             "cost": cost, "low": low, "high": high, "lead": now.lead[solver], "share": float(held[solver]),
             "vectors": memory.get(solver, float("nan")), **base}
        )  # fmt: skip
    return pd.DataFrame(rows)[list(COLUMNS)].sort_values(["cost", "solver"], ignore_index=True)
