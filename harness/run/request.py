"""What somebody asks for, as a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bilevelbench.core.errors import RequestError

from .suite import Block, Suite, load_suite

DEFAULT_STEPS = 1000


def requested(
    name: str | Suite | None, problems: Sequence[str], solvers: Sequence[str], every: Callable[[], Sequence[str]], *,
    seeds: Sequence[int] | None = None, steps: int | None = None, seconds: float | None = None,
    calls: int | None = None, rows: int | None = None, batch_seeds: bool = False, in_process: bool = False,
    **options: Any,
) -> Suite:  # fmt: skip
    """A suite, by name or as it is, or problems with solvers, with the given options in every block.

    ``every`` gives the names of all solvers, for problems without one. Limits that are given replace a suite's own,
    all of them. ``RequestError`` for what cannot be read or does not go together.
    """
    if problems and name:
        raise RequestError(f"both the suite {name!r} and problems were given; give one of them")
    for engine in [*["batched"] * batch_seeds, *["in_process"] * in_process]:
        if options.get("engine") not in (None, engine):
            way = "batch_seeds" if engine == "batched" else "in_process"
            raise RequestError(f"{way} is the engine {engine}, and the engine {options['engine']} was asked for")
        options["engine"] = engine
    limits: dict[str, Any] = {"steps": steps, "seconds": seconds, "calls": calls, "rows": rows}
    limited = any(limit is not None for limit in limits.values())
    if problems:
        limits = limits if limited else {"steps": DEFAULT_STEPS}
        suite = Suite("", "", (Block(tuple(problems), tuple(solvers or every()), **limits),))
    else:
        suite = name if isinstance(name, Suite) else load_suite(name or "default")
        blocks = [replace(block, **limits) for block in suite.blocks] if limited else suite.blocks
        blocks = [replace(block, solvers=(*block.solvers, *solvers), joined=tuple(solvers)) for block in blocks]
        suite = replace(suite, blocks=tuple(blocks))
    return suite.override(seeds=None if seeds is None else tuple(seeds), **options)
