"""Suites: what a named comparison consists of. A suite is a TOML file with blocks of problems x solvers x seeds.

``include = ["traps", ...]`` stands for the blocks of other suites, by name; they come before the file's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import ENGINES, UNTIMED, missing, parse_seeds, suggest

JUDGES = ("", "figures")
DTYPES = ("float32", "float64")
SUITES = files("bilevelbench.suites")


@dataclass(frozen=True)
class Block:
    """Every problem with every solver for every seed, under one budget. Specs are text, such as ``bome(lr=0.05)``.

    tuned: how the solvers' knobs were chosen, as ``bilevelbench tune`` writes it; ``edges`` names those solvers whose
    choice lies at the end of what was tried, and of which knob. joined: solvers that are not the suite's own. judge:
    "figures" where runs are judged by the problem's own figures alone (see ``measure.plan``), not by Phi.
    """

    problems: tuple[str, ...]
    solvers: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    seconds: float | None = None
    calls: int | None = None
    device: str = "cpu"
    dtype: str = "float64"
    threads: int = 1
    iterates: bool = False
    engine: str = "eager"
    rows: int | None = None
    tuned: Mapping[str, Any] = field(default_factory=dict)
    joined: tuple[str, ...] = ()
    judge: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "seconds", "calls", "rows"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e15:
                raise RequestError(f"{name} {value} is not valid; it is a number above 0")
        if self.threads < 1:
            raise RequestError(f"threads {self.threads} is not valid; it is at least 1")
        if self.dtype not in DTYPES:
            raise RequestError(f"there is no dtype {self.dtype!r}; choose from {', '.join(DTYPES)}")
        if self.judge not in JUDGES:
            raise RequestError(f"judge={self.judge!r} is not valid; it is 'figures', or left out to judge by phi, too")
        if self.engine not in ENGINES:
            raise RequestError(f"there is no engine {self.engine!r}; {suggest(self.engine, ENGINES)}")
        if lacks := missing(self.engine):
            raise RequestError(lacks)
        if self.engine in UNTIMED and self.seconds is not None:
            raise RequestError(f"runs of the engine {self.engine} have no seconds of their own; give steps or calls")
        if not self.problems or not self.solvers or not self.seeds:
            raise RequestError("a block of a suite names at least one problem, one solver and one seed")
        if self.steps is None and self.seconds is None and self.calls is None and self.rows is None:
            raise RequestError("a run needs a limit: steps, seconds, calls or rows")

    def is_tuned(self, solver: str) -> bool | str:
        """Whether a solver's knobs were tuned on these problems; "edge" where they lie at the end of what was tried."""
        if not self.tuned or solver in self.joined:
            return False
        return "edge" if solver in self.tuned.get("edges", {}) else True


@dataclass(frozen=True)
class Suite:
    """A named list of blocks."""

    name: str
    about: str
    blocks: tuple[Block, ...] = field(default_factory=tuple)

    def override(self, **options: Any) -> Suite:
        """The suite with the given options in every block (None leaves a block's own)."""
        given = {k: v for k, v in options.items() if v is not None}
        return replace(self, blocks=tuple(replace(block, **given) for block in self.blocks))


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in SUITES.iterdir() if path.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """A suite by name, or by the path of a .toml file. Wrong ones raise a ``RequestError``, one sentence."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise RequestError(f"there is no suite file {name}")
        return _read(path.read_text(encoding="utf-8"), path.stem, name)
    if name not in suite_names():
        raise RequestError(f"there is no suite {name!r}; {suggest(name, suite_names())}")
    return _read(_shipped(name), name, f"suite {name}", (name,))


TOP: dict[str, tuple[type, ...]] = {"about": (str,), "include": (list,), "block": (list,), "tuned": (str,)}
LISTS = {
    "include": "names of suites", "block": "tables, each under [[block]]",
    "solvers": "specs as strings, such as 'bome(lr=0.05)'",
}  # fmt: skip
KEYS: dict[str, tuple[type, ...]] = {
    "problems": (list,), "solvers": (list,), "seeds": (str, int), "steps": (int,), "seconds": (float, int),
    "calls": (int,), "device": (str,), "dtype": (str,), "threads": (int,), "iterates": (bool,),
    "engine": (str,), "rows": (int,), "judge": (str,), "tuned": (dict,),
}  # fmt: skip


def _read(text: str, name: str, source: str, within: tuple[str, ...] = ()) -> Suite:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{source} is not valid TOML: {error}") from None
    check_keys(content, TOP, source)
    parts, blocks = content.get("include", []), content.get("block", [])
    if not (parts or blocks):
        raise RequestError(f"{source} has no [[block]]; a suite is a list of blocks of problems, solvers and seeds")
    included = [block for part in parts for block in _included(part, source, within).blocks]
    by = {"tuned": {"by": content["tuned"]}} if "tuned" in content else {}
    own = (block_of(by | block, source) for block in blocks)
    return Suite(name, str(content.get("about", "")), (*included, *own))


def _included(part: str, source: str, within: tuple[str, ...]) -> Suite:
    if part not in suite_names():
        raise RequestError(f"{source} includes {part!r}, which is no suite; {suggest(part, suite_names())}")
    if part in within:
        raise RequestError(f"{source} includes {part}, by which it is included itself")
    return _read(_shipped(part), part, f"suite {part}", (*within, part))


def _shipped(name: str) -> str:
    return (SUITES / f"{name}.toml").read_text(encoding="utf-8")


def block_of(content: dict[str, Any], source: str) -> Block:
    """A block of its table; what is wrong with it is a ``RequestError`` that begins with the source."""
    check_keys(content, KEYS, source)
    if missing := {"problems", "solvers"} - set(content):
        raise RequestError(f"{source}: a block lacks {' and '.join(sorted(missing))}")
    seeds = parse_seeds(content.get("seeds", "0"))
    return Block(**{**content, "seeds": seeds, "problems": tuple(content["problems"]),
                    "solvers": tuple(content["solvers"])})  # fmt: skip


def check_keys(content: dict[str, Any], known: Mapping[str, tuple[type, ...]], source: str) -> None:
    """Refuse a table of a TOML file with a key that is not known, or a value of another type than the known one."""
    for key, value in content.items():
        if key not in known:
            raise RequestError(f"{source} has a wrong key {key!r}; {suggest(key, known)}")
        items, item = (LISTS.get(key, LISTS["solvers"]), dict if key == "block" else str)
        if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
            takes = f"a list of {items}" if list in known[key] else _kind(known[key])
            raise RequestError(f"{source}: {key} = {value!r} is not valid; it takes {takes}")
        if isinstance(value, list) and not all(isinstance(one, item) for one in value):
            raise RequestError(f"{source}: {key} holds {items}")


def _kind(types: tuple[type, ...]) -> str:
    words = {
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "a table",
    }
    return " or ".join(words[kind] for kind in types)
