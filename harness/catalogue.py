"""What there is: the text behind ``bilevelbench list``."""

from __future__ import annotations

import io
import typing
from typing import Any

from .core.errors import RequestError
from .core.registry import PROBLEMS, SOLVERS, Entry, knobs, parse, suggest

KINDS = ("problems", "solvers", "suites")


def show(what: str = "") -> str:
    """Problems, solvers and suites with one line each; or one of these; or the knobs of one solver or problem."""
    if what in ("", *KINDS):
        return "\n\n".join(_table(kind) for kind in KINDS if what in ("", kind))
    return _one(what)


def _table(kind: str) -> str:
    if kind == "suites":
        from .run.suite import load_suite, suite_names

        lines = [(name, load_suite(name).about) for name in suite_names()]
    else:
        registry = SOLVERS if kind == "solvers" else PROBLEMS
        registry.load()
        lines = [(name, _line(registry.entries[name])) for name in registry.names()]
    width = max(len(name) for name, _ in lines)
    return "\n".join([f"{kind}:"] + [f"  {name:{width}}  {text}" for name, text in lines])


def _line(entry: Entry) -> str:
    return entry.doc.partition("\n")[0]


def _one(text: str) -> str:
    registry = SOLVERS
    spec = parse(text)
    if not spec.file:
        everything = {*SOLVERS.names(), *PROBLEMS.names(), *KINDS}
        if spec.name not in everything:
            raise RequestError(f"there is nothing called {spec.name!r} to list; {suggest(spec.name, everything)}")
        registry = SOLVERS if spec.name in SOLVERS.names() else PROBLEMS
    entry = registry.entry(spec)
    out = io.StringIO()
    print(f"{registry.kind} {entry.name}\n\n{entry.doc}\n\nknobs:", file=out)
    rows = [(name, repr(default), _kind(kind)) for name, (kind, default) in knobs(entry).items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)] if rows else [0, 0]
    for name, default, kind in rows:
        print(f"  {name:{widths[0]}} = {default:{widths[1]}}  {kind}", file=out)
    return out.getvalue().rstrip()


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
