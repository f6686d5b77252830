"""The contract that every solver and every problem keeps, as checks that tests and ``bilevelbench check`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS, load_file
from bilevelbench.core.resolve import resolve
from bilevelbench.core.spec import parse, suggest

from .certificates import certificate_holds
from .enumerate import minibatches_are_unbiased
from .found import calls_per_step, made_of, memory, order_is_as_measured, summary
from .judging import phi_is_judged
from .optima import CHECKS as OPTIMUM_CHECKS
from .portrait import curvature_fits_the_flags, portrait
from .problems import CHECKS as NUMBER_CHECKS
from .solvers import CHECKS as SOLVER_CHECKS
from .torchable import f_and_g_are_functions_of_torch

Check = Callable[[str], Any]  # target -> None, or words on what was found; raises AssertionError


# What all else needs: where it fails nothing more is asked.
FIRST: dict[str, Check] = {"f and g are functions of torch": f_and_g_are_functions_of_torch}
ANSWER_CHECKS: dict[str, Check] = {
    **OPTIMUM_CHECKS,
    "curvature fits the flags": curvature_fits_the_flags,
    "phi is judged": phi_is_judged,
}
PROBLEM_CHECKS: dict[str, Check] = {**FIRST, **NUMBER_CHECKS, **ANSWER_CHECKS}

# What a solver says of itself, held against what it does.
CLAIM_CHECKS: dict[str, Check] = {
    "order": order_is_as_measured,
    "calls per step": calls_per_step,
    "memory": memory,
    "certificate": certificate_holds,
    "minibatches": minibatches_are_unbiased,
}


SAID = {"order", "calls", "memory", "certificate"}  # what a solver can be held to
SECTIONS: dict[str, dict[str, Mapping[str, Check]]] = {
    "solver": {"keeps the contract": SOLVER_CHECKS, "is what it says": CLAIM_CHECKS},
    "problem": {"keeps the contract": {**FIRST, **NUMBER_CHECKS}, "is what it says": ANSWER_CHECKS},
}


def verdicts(text: str) -> Iterator[tuple[bool, str]]:
    """Run all checks that apply; (passed, line of a table) one by one, as they come, with a verdict at the end.

    ``text`` names a solver or a problem, or a file with several; "solvers" and "problems" are all there are.
    """
    for kind, target in targets(text):
        yield True, f"{kind} {target}"
        yield from _verdict(kind, target)


def _verdict(kind: str, target: str) -> Iterator[tuple[bool, str]]:
    sections = SECTIONS[kind]
    width = max(len(name) for checks in sections.values() for name in checks)
    failed = done = 0
    for title, checks in sections.items():
        yield True, f"  {title}?"
        for name, run in checks.items():
            found = outcome(run, target)
            ok = not found.startswith("FAILED")
            failed, done = failed + (not ok), done + 1
            yield ok, f"    {name:{width}}  {found}"
            if name in FIRST and not ok:
                yield False, f"  verdict: {target} fails the first check, without which the others mean nothing"
                return
    if kind == "problem" and not failed:
        yield from _described(target)
    words = f"fails {failed} of {done} checks" if failed else " and ".join(sections)
    if kind == "solver" and not failed and not made_of(target).declares & SAID:  # nothing to hold it to
        words = f"keeps the contract; it declares nothing of itself, found are {summary(target)}"
    yield not failed, f"  verdict: {target} {words}"


def _described(target: str) -> Iterator[tuple[bool, str]]:
    """What a problem has, where it could be built."""
    try:
        lines = portrait(target)
    except Unsupported:
        return
    yield True, "  what it has:"
    yield from ((True, f"    {line}") for line in lines)


def check(text: str) -> tuple[bool, str]:
    """All verdicts at once: (passed, a table as text)."""
    found = list(verdicts(text))
    return all(ok for ok, _ in found), "\n".join(line for _, line in found)


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


def targets(text: str) -> Iterator[tuple[str, str]]:
    """The (kind, spec) pairs that a text names: one for a name, all that a bare file registers."""
    if text in ("solvers", "problems"):
        kind = text.removesuffix("s")
        yield from ((kind, name) for name in {"solver": SOLVERS, "problem": PROBLEMS}[kind].names())
        return
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
