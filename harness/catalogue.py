"""What there is: the text behind ``bilevelbench list``, and the tables of solvers/README.md.

python -m bilevelbench.catalogue solvers/README.md

writes the tables anew between their markers.
"""

from __future__ import annotations

import io
import sys
import typing
from pathlib import Path
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
    if kind == "solvers":
        return _solver_table()
    if kind == "suites":
        from .run.suite import load_suite, suite_names

        lines = [(name, load_suite(name).about) for name in suite_names()]
    else:
        lines = [(name, _line(PROBLEMS.entries[name])) for name in PROBLEMS.names()]
    width = max(len(name) for name, _ in lines)
    return "\n".join([f"{kind}:"] + [f"  {name:{width}}  {text}" for name, text in lines])


FAMILIES = ("unrolled", "implicit", "first order", "derivative free", "control", "")
COLUMNS = ("solver", "family", "order", "certificate", "memory", "notes", "calls per step")


def solver_rows() -> list[tuple[str, ...]]:
    """One row per solver, in ``COLUMNS``: what it says of itself, at its default knobs."""
    SOLVERS.load()
    rows = []
    for name in SOLVERS.names():
        entry = SOLVERS.entries[name]
        made = entry.make()
        notes = [
            *(["stochastic"] if "batch" in knobs(entry) else []),
            *(f"takes {kind}" for kind in made.handles),
            *(f"needs {need}" for need in made.needs),
            *(["unverified"] if made.unverified else []),
        ]
        order = str(made.order) if made.order else "0"
        memory = f"O({made.memory})" if made.memory else "?"
        rows.append((name, made.family, order, made.certificate, memory, ", ".join(notes), made.calls))
    known = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(rows, key=lambda row: (known.get(row[1], len(known)), row[0]))


def _solver_table() -> str:
    rows = [COLUMNS, *solver_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    lines = ["  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return "\n".join(["solvers:"] + [f"  {line}".rstrip() for line in lines])


def solver_markdown() -> str:
    """The table of solvers for solvers/README.md."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [
        (f"`{row[0]}`", *row[1:3], f"`{row[3]}`" if row[3] else "", *row[4:6], f"`{row[6]}`") for row in solver_rows()
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def claim_markdown() -> str:
    """The table of certificates for solvers/README.md."""
    from .contract.certificates import CLAIMS

    rows = [f"| `{name}` | {claim.words} |".replace("|dg/dy|", "\\|dg/dy\\|") for name, claim in CLAIMS.items()]
    return "\n".join(["| certificate | where x ends |", "| --- | --- |", *rows])


GENERATED = {"solvers": solver_markdown, "certificates": claim_markdown}


def regenerated(text: str) -> str:
    """A page with what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` written anew, NAME of ``GENERATED``."""
    for name, make in GENERATED.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{start}{make()}\n{end}{after}" if end else text
    return text


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
    print(f"{registry.kind} {entry.name}\n\n{entry.doc}\n", file=out)
    if registry is SOLVERS:
        row = next(row for row in solver_rows() if row[0] == entry.name)
        said = (f"{title}: {cell}" for title, cell in zip(COLUMNS[1:], row[1:], strict=True) if cell)
        print(*said, "", sep="\n", file=out)
    print("knobs:", file=out)
    rows = [(name, repr(default), _kind(kind)) for name, (kind, default) in knobs(entry).items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)] if rows else [0, 0]
    for name, default, kind in rows:
        print(f"  {name:{widths[0]}} = {default:{widths[1]}}  {kind}", file=out)
    return out.getvalue().rstrip()


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(regenerated(page.read_text(encoding="utf-8")), encoding="utf-8")
