"""The contract that every solver and every problem keeps, as checks that tests and ``bilevelbench check`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS, load_file, parse, resolve, suggest

from .certificates import certificate_holds
from .cost import counts_are_as_declared, memory_is_as_declared
from .problems import CHECKS as PROBLEM_CHECKS
from .solvers import CHECKS as SOLVER_CHECKS

Check = Callable[[str], str | None]


# What a solver says of itself, held against what it does.
CLAIM_CHECKS: dict[str, Check] = {
    "calls per step": counts_are_as_declared,
    "memory": memory_is_as_declared,
    "certificate": certificate_holds,
}


def check(text: str) -> tuple[bool, str]:
    """Run all checks that apply to a solver or a problem, named or in a file; (passed, a table as text)."""
    lines, passed = [], True
    for kind, target in _targets(text):
        checks = {**SOLVER_CHECKS, **CLAIM_CHECKS} if kind == "solver" else PROBLEM_CHECKS
        width = max(len(name) for name in checks)
        lines.append(f"{kind} {target}")
        for name, run in checks.items():
            verdict = outcome(run, target)
            passed &= not verdict.startswith("FAILED")
            lines.append(f"  {name:{width}}  {verdict}")
    return passed, "\n".join(lines)


def outcome(run: Check, target: str) -> str:
    """'ok', 'ok: ...', 'n/a: ...' or 'FAILED: ...' with one sentence."""
    try:
        found = run(target)
    except Unsupported as reason:
        return f"n/a: {reason}"
    except Exception as error:
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"FAILED: {words if isinstance(error, AssertionError) else f'{type(error).__name__}: {words}'}"
    return f"ok: {found}" if found else "ok"


def _targets(text: str) -> Iterator[tuple[str, str]]:
    """The (kind, spec) pairs that a text names: one for a name, all that a bare file registers."""
    spec = parse(text)
    if not spec.file:
        kinds = {"solver": SOLVERS, "problem": PROBLEMS}
        found = [kind for kind, registry in kinds.items() if spec.name in registry.names()]
        if not found:
            known = {*SOLVERS.names(), *PROBLEMS.names()}
            raise RequestError(f"there is nothing called {spec.name!r} to check; {suggest(spec.name, known)}")
        yield found[0], text
        return
    path = Path(spec.file).resolve()
    kinds = {"solver": SOLVERS, "problem": PROBLEMS}
    for registry in kinds.values():
        registry.load()
    load_file(path)
    named = False
    bracket = text.partition("(")[1] + text.partition("(")[2]
    for kind, registry in kinds.items():
        for name in sorted(entry.name for entry in registry.entries.values() if entry.file == path):
            if spec.name in ("", name):
                named = True
                target = f"{spec.file}:{name}{bracket}"
                resolve(registry, target)
                yield kind, target
    if not named:
        raise RequestError(f"{spec.file} registers no solver and no problem{f' {spec.name!r}' if spec.name else ''}")
