"""The performance gate: what a solver costs must not grow unseen. No layer judges seconds; one judges a ratio.

calls: oracle calls per step are what the solver declares. operations: operations of torch and Python calls are those
of a baseline, exactly. bytes: so is the peak of live bytes, how it grows from step to step (not at all) and with which
power of n. floor: steps over a loop written by hand, or else over the bare derivatives that they ask for, paired and
interleaved; it fails only when the whole interval is over the limit. A layer measures what no other layer does, when it
is asked for: a solver through all four is measured once, and nothing is kept for the next.

In anybody's test suite, with pytest-benchmark:

    @pytest.mark.parametrize("layer", LAYERS)
    def test_gate(layer, benchmark):
        gate("my_solver.py", layer, "gate.json", benchmark)

`bilevelbench gate my_solver.py --baseline gate.json --update` writes the baseline, a file to be reviewed like code.
Counts of operations and bytes depend on the versions of torch and Python: they are kept by version. Under versions
that the baseline does not know, the layers judge what does not depend on them (the solver's own operations and bytes)
and say so.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bilevelbench.core.errors import RequestError
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import make_solver
from bilevelbench.core.solver import Solver, require
from bilevelbench.measure.counts import counts
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import Ratio, step_over_floor, steps_of

from .cost import Range, asked, declared
from .found import exponent
from .quadratic import finite_sum, quadratic

SCHEMA = 1
LAYERS = ("calls", "operations", "bytes", "floor")
STEPS = 3
SHAPE = ("growth_bytes", "exponent")  # of bytes: from step to step, and the power of n
LASTING = ("calls", "own_operations", "own_bytes", *SHAPE, "ratio")
VERSIONED = ("operations", "python_calls", "bytes")  # kept by version
SLACK = 1.25  # of the floor layer: the interval must lie above so many times the ratio in the baseline
VERSION = f"torch {'.'.join(torch.__version__.split('.')[:2])}, python {'.'.join(platform.python_version_tuple()[:2])}"


class Verdict(NamedTuple):
    """One layer of one solver: whether it passed, what was found, what was expected, a remark.

    interval: (median, low, high) of a ratio, and ``limit`` what ``low`` must not exceed; None in layers that count.
    """

    solver: str
    layer: str
    passed: bool
    found: str
    expected: str
    remark: str = ""
    interval: Ratio | None = None
    limit: float | None = None


def problem() -> Problem:
    """What everything is measured on: a quadratic that is a finite sum, so that every solver has its way with it."""
    return finite_sum(quadratic())


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
        raise RequestError(f"{path} has schema {content['schema']!r}, this version reads {SCHEMA}; {make}")
    return content


def measure(solver: Solver, layer: str, p: Problem) -> dict[str, Any]:
    """What a baseline holds of a solver for one layer. No layer measures what another one does."""
    if layer == "calls":
        return {"calls": dict(sorted(sum(asked(solver, p, STEPS), Counter[str]()).items()))}
    if layer == "operations":
        return {**counts(p, solver, STEPS)}
    if layer == "bytes":
        held = peak(p, solver)
        own = {"own_bytes": held["solver_bytes"], "bytes": held["peak_bytes"], "growth_bytes": held["growth_bytes"]}
        return own | {"exponent": round(exponent(solver), 1)}
    return {"ratio": step_over_floor(p, solver)}


def update(path: Path | str, names: list[str]) -> None:
    """Write or refresh the solvers of a baseline; those of other versions and other solvers stay."""
    path = Path(path)
    content: dict[str, Any] = {"schema": SCHEMA, "solvers": {}, "versions": {}}
    if path.exists():
        content = read(path)
    here = content["versions"].setdefault(VERSION, {})
    for name in names:
        solver, p = make_solver(name), problem()
        require(solver, p)
        found = {k: v for layer in LAYERS for k, v in measure(solver, layer, p).items()}
        found["ratio"] = round(found["ratio"].median, 2)
        content["solvers"][name] = {k: found[k] for k in LASTING}
        here[name] = {k: found[k] for k in VERSIONED}
    path.write_text(_text(content), encoding="utf-8")


def _text(content: dict[str, Any]) -> str:
    """A line per solver, sorted: a change shows as the lines that it touches."""

    def block(entries: dict[str, Any], indent: str) -> str:
        lines = [f"{indent}{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items())]
        return "{\n" + ",\n".join(lines) + f"\n{indent[2:]}}}"

    versions = ",\n".join(f"    {json.dumps(v)}: {block(e, '      ')}" for v, e in sorted(content["versions"].items()))
    solvers = block(content["solvers"], "    ")
    return f'{{\n  "schema": {SCHEMA},\n  "solvers": {solvers},\n  "versions": {{\n{versions}\n  }}\n}}\n'


def verdict(name: str, layer: str, baseline: dict[str, Any], solver: Solver | None = None) -> Verdict:
    """One layer of one solver, measured now, against a baseline. ``solver`` stands in for the one ``name`` makes."""
    solver = solver or make_solver(name)
    p = problem()
    require(solver, p)
    if layer not in LAYERS:
        raise RequestError(f"the gate has no layer {layer!r}; choose from {', '.join(LAYERS)}")
    if layer == "calls" and solver.calls:
        return _as_declared(name, solver.calls, declared(solver, p), asked(solver, p))
    if name not in baseline["solvers"]:
        raise RequestError(f"the baseline does not know {name!r}; add it with `bilevelbench gate {name} --update`")
    return judge(name, layer, measure(solver, layer, p), baseline)


def judge(name: str, layer: str, found: dict[str, Any], baseline: dict[str, Any]) -> Verdict:
    """What ``measure`` found for a layer against what a baseline knows of it."""
    known, here = baseline["solvers"][name], baseline["versions"].get(VERSION, {}).get(name)
    if layer == "floor":
        limit, ratio = SLACK * known["ratio"], found["ratio"]
        return Verdict(name, layer, ratio.low <= limit, shown(ratio), f"<= {limit:.2f}", interval=ratio, limit=limit)
    unknown = layer != "calls" and not here
    remark = f"no counts for {VERSION}: judged by the solver's own alone" if unknown else ""
    kept = {"growth_bytes": 0, **known, **(here or {})}
    which = [k for k in found if k in (LASTING if layer == "calls" or unknown else (*VERSIONED, *SHAPE)) and k in kept]
    expected = {k: kept[k] for k in which}
    seen = {k: found[k] for k in which}
    return Verdict(name, layer, seen == expected, _words(seen), _words(expected), remark)


def _as_declared(name: str, calls: str, bounds: dict[str, Range], seen: list[Counter[str]]) -> Verdict:
    """The calls of every step against what the solver declares; no baseline is needed."""
    kinds = sorted(set(bounds) | {kind for step in seen for kind in step})
    passed = all(bounds.get(k, (0, 0))[0] <= step[k] <= bounds.get(k, (0, 0))[1] for step in seen for k in kinds)
    return Verdict(name, "calls", passed, _words(dict(sorted(seen[-1].items()))), calls)


def shown(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{v} {k.replace('_', ' ')}" if not isinstance(v, dict) else _words(v) for k, v in values.items())


def line(found: Verdict) -> str:
    """A verdict for a terminal."""
    said = f"{'ok' if found.passed else 'FAILED':6} {found.solver} {found.layer}: {found.found}"
    expected = "" if found.passed and found.layer != "floor" else f"; expected {found.expected}"
    return said + expected + (f" ({found.remark})" if found.remark else "")


def table(found: list[Verdict]) -> str:
    """Verdicts in Markdown, the failed ones first."""
    failed = [v for v in found if not v.passed]
    words = f"{len(failed)} of {len(found)} failed" if failed else f"all {len(found)} held"
    lines = [f"### Performance gate: {words}", "", "| | solver | layer | found | expected |", "|---|---|---|---|---|"]
    for v in sorted(found, key=lambda v: v.passed):
        remark = f" ({v.remark})" if v.remark else ""
        lines.append(
            f"| {'ok' if v.passed else '**failed**'} | {v.solver} | {v.layer} | {v.found}{remark} | {v.expected} |"
        )
    return "\n".join(lines) + "\n"


def gate(name: str, layer: str, baseline: Path | str, benchmark: Any = None, solver: Solver | None = None) -> None:
    """Fail with a sentence where a layer does not hold. ``benchmark`` is pytest-benchmark's fixture, to be told."""
    found = verdict(name, layer, read(baseline), solver)
    if benchmark is not None:
        benchmark.extra_info.update({k: v for k, v in found._asdict().items() if v is not None})
        benchmark.pedantic(steps_of(problem(), solver or make_solver(name), 1), rounds=3, warmup_rounds=1)
    assert found.passed, f"{name}, {layer}: {found.found}; expected {found.expected}. {found.remark}"
