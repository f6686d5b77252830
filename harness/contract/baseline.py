"""The file that a gate holds solvers to: a line per solver, to be reviewed like code.

Counts of operations and bytes, and iterates, depend on the versions of torch and Python, and are kept by version.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bilevelbench.core.errors import RequestError
from bilevelbench.core.solver import require
from bilevelbench.measure.ratio import Ratio, step_over_floor

from .layers import LASTING, LAYERS, VERSIONED, measure, measuring, middle, problem_of, solver_of

SCHEMA = 2
PROCESSES = 3  # that a baseline's ratio comes from: memory lies otherwise in each
VERSION = f"torch {'.'.join(torch.__version__.split('.')[:2])}, python {'.'.join(platform.python_version_tuple()[:2])}"


def read(path: Path | str) -> dict[str, Any]:
    """A baseline, or a ``RequestError`` with the command that makes one."""
    path = Path(path)
    make = f"`bilevelbench gate SOLVER --baseline {path} --update` makes one"
    if not path.is_file():
        raise RequestError(f"there is no baseline file {path}; {make}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RequestError(f"{path} is not JSON, hence no baseline; {make}") from None
    if not isinstance(content, dict) or not {"schema", "solvers", "versions"} <= set(content):
        raise RequestError(f"{path} is no baseline of the gate; {make}")
    if content["schema"] != SCHEMA:
        raise RequestError(
            f"{path} has schema {content['schema']!r}, this version reads {SCHEMA}; {make} once it is gone"
        )
    return content


def update(path: Path | str, names: Sequence[str], layers: Sequence[str] = LAYERS) -> None:
    """Write or refresh layers of solvers in a baseline; those of other versions and other solvers stay."""
    path = Path(path)
    content: dict[str, Any] = {"schema": SCHEMA, "solvers": {}, "versions": {}}
    if path.exists():
        content = read(path)
    here = content["versions"].setdefault(VERSION, {})
    for name in names:
        solver, p = solver_of(name), problem_of(name)
        require(solver, p)
        for layer in (one for one in layers if one != "floor"):
            with measuring(name):
                found = measure(solver, layer, p)
            for kept, known in ((content["solvers"], LASTING), (here, VERSIONED)):
                kept.setdefault(name, {}).update({k: found[k] for k in known[layer] if k in found})
    if "floor" in layers:
        for name, ratio in ratios(names).items():
            content["solvers"].setdefault(name, {})["ratio"] = [round(value, 2) for value in ratio]
    path.write_text(_text(content), encoding="utf-8")


def ratios(names: Sequence[str]) -> dict[str, Ratio]:
    """Steps over their floor, from several processes: the median of their medians, the least and the largest."""
    return {name: middle(looks) for name, looks in looks_at(names, PROCESSES).items()}


def looks_at(names: Sequence[str], processes: int) -> dict[str, list[Ratio]]:
    """Steps over their floor, in so many processes made anew."""
    seen: dict[str, list[Ratio]] = {name: [] for name in names}
    for _ in range(processes):
        command = [sys.executable, "-m", "bilevelbench.contract.baseline", json.dumps(list(names))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RequestError(f"a ratio could not be measured: {done.stderr.strip().rpartition(chr(10))[2]}")
        for name, ratio in json.loads(done.stdout.rpartition("RATIOS")[2]).items():
            seen[name].append(Ratio(*ratio))
    return seen


def _text(content: dict[str, Any]) -> str:
    """A line per solver, sorted: a change shows as the lines that it touches."""

    def block(entries: dict[str, Any], indent: str) -> str:
        lines = [f"{indent}{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items())]
        return "{\n" + ",\n".join(lines) + f"\n{indent[2:]}}}"

    versions = ",\n".join(f"    {json.dumps(v)}: {block(e, '      ')}" for v, e in sorted(content["versions"].items()))
    solvers = block(content["solvers"], "    ")
    return f'{{\n  "schema": {SCHEMA},\n  "solvers": {solvers},\n  "versions": {{\n{versions}\n  }}\n}}\n'


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("RATIOS" + json.dumps({n: step_over_floor(problem_of(n), solver_of(n)) for n in json.loads(sys.argv[1])}))
