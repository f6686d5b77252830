"""What is tuned: a grid of problems, solvers and a budget, from a file or from the command line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import parse_seeds

from .search import LEAST
from .suite import check_keys

CONFIGS, CALLS, SEEDS = 24, 2000, "1000-1002"
SUITE = {"seeds": "0-4"}  # what a suite's block has beside its problems and solvers, unless a grid says else
TOP: dict[str, tuple[type, ...]] = {
    "about": (str,), "include": (list,), "seeds": (str,), "configs": (int,), "solvers": (list,), "block": (list,),
}  # fmt: skip
KEYS: dict[str, tuple[type, ...]] = {
    "problems": (list,), "also": (list,), "solvers": (list,), "without": (list,), "calls": (int,), "rows": (int,),
    "suite": (dict,), "note": (str,),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Problems that are tuned by themselves, with the same solvers and budget.

    also: problems that take over what was chosen on the first. suite: what the suite's block says beside that.
    """

    problems: tuple[str, ...]
    solvers: tuple[str, ...]
    limits: tuple[tuple[str, int], ...] = (("calls", CALLS),)
    also: tuple[str, ...] = ()
    suite: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What is tuned: parts, on how many configurations and on which seeds. include: suites that the suite includes."""

    parts: tuple[Part, ...]
    configs: int = CONFIGS
    seeds: tuple[int, ...] = parse_seeds(SEEDS)
    about: str = ""
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.configs < LEAST:
            raise RequestError(f"configs {self.configs} is not valid; a search needs at least {LEAST}")
        for part in self.parts:
            if both := {*parse_seeds(part.suite.get("seeds", "0"))} & {*self.seeds}:
                raise RequestError(f"seed {min(both)} is both tuned on and used by the suite; choose others to tune on")
            if not part.problems or not part.solvers:
                raise RequestError("a grid names at least one problem and one solver; give solvers with -s")


def read_grid(path: Path) -> Plan:
    """The plan of a grid file. Wrong ones raise a ``RequestError``, one sentence."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"the grid {path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not valid TOML: {error}") from None
    check_keys(content, TOP, str(path))
    every, parts = content.get("solvers", []), []
    for block in content.get("block", []):
        check_keys(block, KEYS, str(path))
        left = [name for name in block.get("solvers", every) if name not in block.get("without", [])]
        limits = tuple((name, block[name]) for name in ("calls", "rows") if name in block) or (("calls", CALLS),)
        suite = {**SUITE, **{name: 5 * value for name, value in limits}, **block.get("suite", {})}
        parts.append(
            Part(
                tuple(block.get("problems", [])), tuple(left), limits, tuple(block.get("also", [])), suite,
                block.get("note", ""),
            )
        )  # fmt: skip
    if not parts:
        raise RequestError(f"{path} has no [[block]]; a grid is a list of blocks of problems, solvers and a budget")
    seeds = parse_seeds(content.get("seeds", SEEDS))
    about, include = content.get("about", ""), tuple(content.get("include", []))
    return Plan(tuple(parts), content.get("configs", CONFIGS), seeds, about, include)
