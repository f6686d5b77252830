"""``bilevelbench.tune``: knobs chosen the same way for every solver."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bilevelbench.core.errors import RequestError

from . import arguments

if TYPE_CHECKING:
    from bilevelbench.run.choices import Found, Name
    from bilevelbench.run.grid import Plan

MADE = "# Made by: "  # begins a suite that may be written again


class Tuned(NamedTuple):
    """What was chosen for a solver on a problem.

    solver: its text. worth: the median score of the choice, twice and half its step, over all instances, from 0 to 1.
    edges: knobs whose choice lies at the end of what was tried. configs: how many configurations were tried.
    cpu_seconds: what that took. unsupported: why nothing was tried.
    """

    problem: str
    asked: str
    solver: str
    worth: float
    edges: tuple[str, ...]
    configs: int
    cpu_seconds: float
    unsupported: str = ""


def tune(
    problems: Any = None,
    solvers: Any = None,
    *,
    grid: str | os.PathLike[str] | None = None,
    configs: int | None = None,
    calls: int | None = None,
    rows: int | None = None,
    seeds: int | str | Iterable[int] | None = None,
    scores: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    timeout: float | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    command: str = "",
) -> list[Tuned]:
    """Choose the knobs of every solver on every problem: the same number of configurations and the same budget for all.

    What is tuned, and from where, a solver class says in ``space``; a knob that is given is kept. A configuration's
    score is the share of targets that it holds, then what they cost; of a choice it is the median over twice and half
    its step as well, and over all seeds.

    Parameters
    ----------
    problems, solvers
        As for ``run``.
    grid
        A file that says all this for a suite, in place of problems and solvers.
    configs
        Configurations of each solver on each problem (24). Up to 8 more are tried where a choice would otherwise lie
        at the end of what was tried.
    calls, rows
        Budget of each run: oracle calls (2000), or rows of data behind them.
    seeds
        Instances to tune on (1000 to 1002), which the runs to come should not use.
    scores
        A file of JSON lines that keeps every score: what is in it is not worked out again, unless the code of the
        solver or of the problem has changed.
    jobs
        Runs at a time.
    timeout
        Seconds after which a run is given up and its configuration scores nothing (120).
    out
        A file for the suite of what was chosen, ``scores/NAME.jsonl`` beside it for what came of every step.
    progress
        Say what was chosen as it is, on stderr.
    command
        What the suite says it was made by.

    Raises
    ------
    RequestError
        For anything that cannot be done: one sentence that names the argument.
    """
    from bilevelbench.run.choices import sensitivity, suite_text
    from bilevelbench.run.grid import read_grid
    from bilevelbench.run.scores import TIMEOUT, Scores
    from bilevelbench.run.tune import tuned

    from .prepare import texts

    kept = None if scores is None else arguments.path("scores", scores)
    target = None if out is None else _writable(arguments.path("out", out))
    workers = arguments.whole("jobs", jobs) or 1
    limit = arguments.positive("timeout", timeout) or TIMEOUT
    with texts(problems, solvers, False) as (asked, with_, sent):
        if grid is not None:
            if asked or with_:
                raise RequestError(f"the grid {grid} names its problems and solvers; give the one or the other")
            plan = read_grid(arguments.path("grid", grid))
        else:
            plan = _plan(asked, with_, calls=calls, rows=rows, seeds=seeds, configs=configs)
        with Scores(kept, workers, sent, limit) as pool:
            found = tuned(plan, pool, telling(plan, arguments.flag("progress", progress)))
    if target:
        target.write_text(suite_text(plan, found, command or "bilevelbench.tune") + "\n", encoding="utf-8")
        beside = target.parent / "scores" / f"{target.stem}.jsonl"
        beside.parent.mkdir(exist_ok=True)
        beside.write_text(sensitivity(plan, found), encoding="utf-8")
    return [
        Tuned(problem, solver, one.solver, one.worth, one.edges, one.tried, one.cpu, one.unsupported)
        for (_, problem, solver), one in found.items()
    ]


def _plan(asked: Sequence[str], solvers: Sequence[str], **given: Any) -> Plan:
    from bilevelbench.run import grid

    counts = {name: arguments.whole(name, given[name]) for name in ("calls", "rows", "configs")}
    limits = tuple((name, n) for name in ("calls", "rows") if (n := counts[name])) or (("calls", grid.CALLS),)
    seeds = arguments.seeds(given["seeds"]) or arguments.seeds(grid.SEEDS)
    suite = {**grid.SUITE, **{name: 5 * n for name, n in limits}}
    part = grid.Part(tuple(asked), tuple(solvers), limits, suite=suite)
    return grid.Plan((part,), counts["configs"] or grid.CONFIGS, seeds or ())


def _writable(out: Path) -> Path:
    if out.suffix != ".toml":
        raise RequestError(f"out {out} is no suite; name a file that ends in .toml")
    if out.exists() and not out.read_text(encoding="utf-8", errors="replace").startswith(MADE):
        raise RequestError(f"out {out} is there, and was not made by `tune`; name another file")
    if not out.parent.is_dir():
        raise RequestError(f"out {out}: there is no folder {out.parent}")
    return out


def telling(plan: Plan, shown: bool) -> Callable[[Name, Found], None]:
    """What says on stderr what was chosen, as it is."""
    count, total = [0], sum(len(part.problems) * len(part.solvers) for part in plan.parts)

    def tell(name: Name, found: Found) -> None:
        count[0] += 1
        said = found.unsupported or f"{found.solver}, worth {found.worth:.3f} over {found.tried} configurations"
        edge = f", {' and '.join(found.edges)} at the edge" if found.edges else ""
        if shown:
            print(f"{count[0]}/{total} {name[1]}: {said}{edge}", file=sys.stderr, flush=True)

    return tell
