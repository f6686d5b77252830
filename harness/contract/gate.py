"""The performance gate: what a solver costs must not grow unseen. No layer judges seconds; one judges a ratio.

calls: oracle calls per step are what the solver declares, and passes and evaluations of f and g those of a baseline.
operations: so are operations of torch by name, Python calls, and the power of n with which operations grow. bytes: so
is the peak of live bytes, how it grows from step to step (not at all) and with n, up to n = 1024. floor: steps over a
loop written by hand, or else over the bare derivatives that they ask for, paired and interleaved, against a baseline
from several processes; what is above its limit is measured in two more, and the median of the three decides. What
differs and is harmless is a remark: the iterates are equal to the bit, no call, pass or evaluation was added, no
operation, and no byte.

In anybody's test suite, with pytest-benchmark:

    @pytest.mark.parametrize("layer", LAYERS)
    def test_gate(layer, benchmark):
        gate("my_solver.py", layer, "gate.json", benchmark)

`bilevelbench gate my_solver.py --baseline gate.json --update` writes the baseline, a file to be reviewed like code;
"my_solver.py on my_problem.py" is measured on a problem of one's own. Under versions of torch and Python that the
baseline does not know, operations and bytes fail until they are added. pytest-benchmark's seconds are those of rounds
of steps in the floor layer; in a layer that counts they say how long it took to be judged.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from bilevelbench.core.errors import RequestError
from bilevelbench.core.solver import Solver, require
from bilevelbench.measure.ratio import ROUNDS, Ratio, steps_of

from . import baseline as baselines
from .baseline import read as read
from .baseline import update as update
from .cost import Range, declared
from .layers import LASTING, LAYERS, ON, STEPS, VERSIONED, measure, measuring, middle, problem_of, solver_of

SLACK = 1.2  # of the floor layer: the median must not be above so many times the baseline's
WIDEST = 1.05  # nor above so many times the largest of the baseline's processes, whichever is more
OTHERS = 2  # processes, made anew, that a ratio above its limit is measured in
HELPERS = 1.1  # Python calls over the baseline's that a helper function may add


class Verdict(NamedTuple):
    """One layer of one solver: whether it passed, what was found, what was expected, a remark.

    interval: (median, low, high) of a ratio, and ``limit`` what the median must not exceed; None in layers that count.
    """

    solver: str
    layer: str
    passed: bool
    found: str
    expected: str
    remark: str = ""
    interval: Ratio | None = None
    limit: float | None = None


def verdict(name: str, layer: str, baseline: dict[str, Any], solver: Solver | None = None) -> Verdict:
    """One layer of one solver, measured now, against a baseline. ``solver`` stands in for the one ``name`` makes."""
    named, solver, p = solver is None, solver or solver_of(name), problem_of(name)
    require(solver, p)
    if layer not in LAYERS:
        raise RequestError(f"the gate has no layer {layer!r}; choose from {', '.join(LAYERS)}")
    if name not in baseline["solvers"]:
        raise RequestError(
            f"the baseline does not know {name!r}; add it with `{_command(name)} --update` and its --baseline"
        )
    known = {**baseline["solvers"][name], **baseline["versions"].get(baselines.VERSION, {}).get(name, {})}
    if layer == "floor" and "ratio" in known:
        limit = max(SLACK * known["ratio"][0], WIDEST * known["ratio"][2])
        ratio = measure(solver, layer, p, limit)["ratio"]
        if ratio.median > limit and named:  # a loaded process read 1.60 for equal code, limit 1.37
            ratio = middle([ratio, *baselines.looks_at([name], OTHERS)[name]])
        return Verdict(name, layer, ratio.median <= limit, shown(ratio), f"<= {limit:.2f}", interval=ratio, limit=limit)
    with measuring(name):
        found = measure(solver, layer, p)
    if layer == "calls" and solver.calls:
        bounds, seen = declared(solver, p), found["calls"]
        if not fits(bounds, seen, STEPS):
            return Verdict(name, layer, False, _words(seen), f"{solver.calls} a step", "not what the solver declares")
    return judge(name, layer, found, known)


def fits(bounds: dict[str, Range], seen: dict[str, int], steps: int) -> bool:
    """Whether the calls of some steps are within what the solver declares of one."""
    kinds = {*bounds, *seen}
    return all(steps * bounds.get(k, (0, 0))[0] <= seen.get(k, 0) <= steps * bounds.get(k, (0, 0))[1] for k in kinds)


def judge(name: str, layer: str, found: dict[str, Any], known: dict[str, Any]) -> Verdict:
    """What ``measure`` found for a layer that counts against what a baseline knows of it."""
    kinds = [k for k in (*LASTING[layer], *VERSIONED[layer]) if k in found and k != "iterates"]
    missing = [k for k in kinds if k not in known]
    seen, expected = {k: found[k] for k in kinds}, {k: known[k] for k in kinds if k in known}
    if missing:
        words = f"no {', '.join(missing).replace('_', ' ')} for {baselines.VERSION}"
        return Verdict(
            name, layer, False, _words(seen), words, "add what this version finds: it is judged by nothing else"
        )
    changes = changed(expected, seen)
    if not changes:
        return Verdict(name, layer, True, _words(seen), _words(expected))
    harmless = layer != "calls" and _harmless(found, known)
    words = "; ".join(changes) + ("; harmless: iterates equal to the bit, nothing added" if harmless else "")
    return Verdict(name, layer, harmless, _words(seen), _words(expected), words)


def _harmless(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether a difference is none that anybody pays for. Calls, passes and evaluations are the first layer's."""
    no_more = ("own_operations", "operations_power", "own_bytes", "bytes", "growth_bytes", "copies", "exponent")
    return (
        found["iterates"] == known.get("iterates")
        and all(found[k] <= known[k] for k in no_more if k in found)
        and sum(found.get("operations", {}).values()) <= sum(known["operations"].values())
        and found.get("python_calls", 0) <= HELPERS * known["python_calls"]
    )


def changed(known: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What came and what went, in words."""
    words = []
    for kind, value in found.items():
        was, name = known[kind], kind.replace("_", " ")
        if isinstance(value, dict):
            more = Counter(value)
            more.subtract(was)
            parts = [f"{n:+d} {key}" for key, n in sorted(more.items(), key=lambda one: -abs(one[1])) if n]
            words += [f"{name} {', '.join(parts[:6])}{', ...' if len(parts) > 6 else ''}"] if parts else []
        elif value != was:
            words.append(f"{name} {was:g} to {value:g}")
    return words


def accept(name: str, layer: str, baseline: Path | str = "BASELINE") -> str:
    """The command that takes what is found of one layer of a solver into the baseline."""
    return f"{_command(name)} --baseline {baseline} --update --layer {layer}"


def _command(name: str) -> str:
    solver, _, problem = name.partition(ON)
    return f"bilevelbench gate {_quoted(solver)}" + (f" -p {_quoted(problem)}" if problem else "")


def _quoted(name: str) -> str:
    return f"'{name}'" if set(name) & set(" ()'\"") else name


def shown(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _words(values: dict[str, Any]) -> str:
    """Counts in words; operations by name are too many, so their sum."""
    parts = []
    for k, v in values.items():
        if k == "operations":
            parts.append(f"{sum(v.values())} operations")
        elif isinstance(v, dict):
            parts.append(_words(v) if k == "calls" else f"{k} {_words(v)}")
        else:
            parts.append(f"{v} {k.replace('_', ' ')}")
    return ", ".join(parts)


def line(found: Verdict, baseline: Path | str = "BASELINE") -> str:
    """A verdict for a terminal; a failure with the command that accepts it."""
    said = f"{'ok' if found.passed else 'FAILED':6} {found.solver} {found.layer}: {found.found}"
    expected = "" if found.passed and found.layer != "floor" else f"; expected {found.expected}"
    remark = f" ({found.remark})" if found.remark else ""
    return (
        said + expected + remark + ("" if found.passed else f"\n       {accept(found.solver, found.layer, baseline)}")
    )


def table(found: list[Verdict], baseline: Path | str = "BASELINE") -> str:
    """Verdicts in Markdown, the failed ones first."""
    failed = [v for v in found if not v.passed]
    words = f"{len(failed)} of {len(found)} failed" if failed else f"all {len(found)} held"
    lines = [f"### Performance gate: {words}", "", "| | solver | layer | found | expected |", "|---|---|---|---|---|"]
    for v in sorted(found, key=lambda v: v.passed):
        remark = f" ({v.remark})" if v.remark else ""
        lines.append(
            f"| {'ok' if v.passed else '**failed**'} | {v.solver} | {v.layer} | {v.found}{remark} | {v.expected} |"
        )
    if failed:
        lines += ["", "To accept:", "", *(f"    {accept(v.solver, v.layer, baseline)}" for v in failed)]
    return "\n".join(lines) + "\n"


def gate(name: str, layer: str, baseline: Path | str, benchmark: Any = None, solver: Solver | None = None) -> None:
    """Fail with a sentence where a layer does not hold. ``benchmark`` is pytest-benchmark's fixture, to be told."""
    known = read(baseline)
    if benchmark is None or layer == "floor":
        found = verdict(name, layer, known, solver)
    else:
        found = benchmark.pedantic(verdict, args=(name, layer, known, solver))
    if benchmark is not None:
        benchmark.group = f"gate, {layer}"
        benchmark.extra_info.update({k: v for k, v in found._asdict().items() if v is not None})
        if layer == "floor":
            p, solver = problem_of(name), solver or solver_of(name)
            benchmark.pedantic(steps_of(p, solver, STEPS, begun=True), rounds=ROUNDS, warmup_rounds=1)
    assert found.passed, (
        f"{name}, {layer}: {found.found}; expected {found.expected}. {found.remark}\n"
        f"to accept: {accept(name, layer, baseline)}"
    )
