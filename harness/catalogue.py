"""What there is: the text behind ``bilevelbench list``, and the tables of solvers/README.md and problems/README.md.

python -m bilevelbench.catalogue solvers/README.md
python -m bilevelbench.catalogue problems/README.md

write the tables anew between their markers.
"""

from __future__ import annotations

import io
import re
import sys
import typing
from pathlib import Path
from typing import Any

from .core.draw import Draw
from .core.errors import RequestError, Unsupported
from .core.problem import FLAGS
from .core.registry import PROBLEMS, SOLVERS, Entry
from .core.resolve import build_problem, knobs
from .core.solver import require
from .core.spec import parse, suggest
from .stats.papers import Claim

KINDS = ("problems", "solvers", "suites", "claims")


def show(what: str = "") -> str:
    """Problems, solvers, suites and claims with one line each; or one of these; or the knobs of a solver or problem."""
    if what in ("", *KINDS):
        return "\n\n".join(_table(kind) for kind in KINDS if what in ("", kind))
    return _one(what)


def _table(kind: str) -> str:
    if kind == "solvers":
        return _solver_table()
    if kind == "problems":
        return _problem_table()
    if kind == "claims":
        from .stats.papers import claims

        return "\n".join(["claims:", *_aligned([(c.id, c.paper, c.where, _tried(c), c.says) for c in claims()])])
    from .run.suite import load_suite, suite_names

    lines = [(name, load_suite(name).about) for name in suite_names()]
    width = max(len(name) for name, _ in lines)
    return "\n".join([f"{kind}:"] + [f"  {name:{width}}  {text}" for name, text in lines])


def _tried(claim: Claim) -> str:
    """At which scales a claim can be tried."""
    return "out of reach" if claim.reach else " and ".join(claim.scales)


FAMILIES = ("unrolled", "implicit", "first order", "derivative free", "control", "")
COLUMNS = ("solver", "family", "order", "certificate", "memory", "notes", "calls per step")


def solver_rows(ours: bool = False) -> list[tuple[str, ...]]:
    """One row per solver, in ``COLUMNS``: what it says of itself, at its default knobs. ours: only those shipped."""
    SOLVERS.load()
    rows = []
    for name in SOLVERS.names():
        entry = SOLVERS.entries[name]
        if ours and not _shipped(entry):
            continue
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


def _shipped(entry: Entry) -> bool:
    return entry.make.__module__.startswith("bilevelbench.")


def _solver_table() -> str:
    return "\n".join(["solvers:", *_aligned([COLUMNS, *solver_rows()])])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as indented lines, every column but the last as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return [f"  {line}".rstrip() for line in lines]


PROBLEM_COLUMNS = ("problem", "n_x", "n_y", "flags", "Phi*", "what it shows", "how Phi* is known")
NO_DATA = "needs data"  # in place of the flags, where the data of a problem are missing


def problem_rows(names: list[str] | None = None) -> list[tuple[str, ...]]:
    """One row per problem, in ``PROBLEM_COLUMNS``, at its default knobs and seed 0."""
    rows: list[tuple[str, ...]] = []
    for name in PROBLEMS.names() if names is None else names:
        shows = PROBLEMS.entries[name].shows
        try:
            made = build_problem(name, Draw(0))
        except Unsupported:
            rows.append((name, "", "", NO_DATA, "", shows, ""))
            continue
        flags = ", ".join(flag for flag in FLAGS if flag in made.flags)
        value = "unknown" if made.phi_star is None else f"{made.phi_star:.6g}"
        rows.append((name, str(made.x0.numel()), str(made.y0.numel()), flags, value, shows, made.phi_star_source))
    return rows


def _problem_table() -> str:
    return "\n".join(["problems:", *_aligned([PROBLEM_COLUMNS[:-1], *(row[:-1] for row in problem_rows())])])


def problem_markdown() -> str:
    """The table of problems for problems/README.md: those that come with the package."""
    names = [name for name in PROBLEMS.names() if _shipped(PROBLEMS.entries[name])]
    rows = [(f"`{row[0]}`", *row[1:]) for row in problem_rows(names)]
    return _markdown([PROBLEM_COLUMNS, ("---",) * len(PROBLEM_COLUMNS), *rows])


def _markdown(rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(re.sub(r"([|*])", r"\\\1", cell) for cell in row) + " |" for row in rows)


def solver_markdown() -> str:
    """The table of solvers for solvers/README.md."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [
        (f"`{row[0]}`", *row[1:3], f"`{row[3]}`" if row[3] else "", *row[4:6], f"`{row[6]}`")
        for row in solver_rows(ours=True)
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def claim_markdown() -> str:
    """The table of certificates for solvers/README.md."""
    from .contract.claims import CLAIMS

    rows = [f"| `{name}` | {claim.words} |".replace("|dg/dy|", "\\|dg/dy\\|") for name, claim in CLAIMS.items()]
    return "\n".join(["| certificate | where x ends |", "| --- | --- |", *rows])


GENERATED = {"solvers": solver_markdown, "certificates": claim_markdown, "problems": problem_markdown}


def regenerated(text: str) -> str:
    """A page with what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` written anew, NAME of ``GENERATED``."""
    for name, make in GENERATED.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{start}{make()}\n{end}{after}" if end else text
    return text


def _one(text: str) -> str:
    registry = SOLVERS
    spec = parse(text)
    if not spec.file:
        everything = {*SOLVERS.names(), *PROBLEMS.names(), *KINDS}
        if spec.name not in everything:
            raise RequestError(f"there is nothing called {spec.name!r} to list; {suggest(spec.name, everything)}")
        registry = SOLVERS if spec.name in SOLVERS.names() else PROBLEMS
    else:
        from .contract import targets

        (kind, text), *more = targets(text)
        if more:
            return "\n\n".join(_one(each) for _, each in ((kind, text), *more))
        registry, spec = SOLVERS if kind == SOLVERS.kind else PROBLEMS, parse(text)
    entry = registry.entry(spec)
    out = io.StringIO()
    print(f"{registry.kind} {entry.name}\n\n{entry.doc}\n", file=out)
    if entry.shows:
        print(f"shows: {entry.shows}\n", file=out)
    if registry is SOLVERS:
        row = next(row for row in solver_rows() if row[0] == entry.name)
        said = (f"{title}: {cell}" for title, cell in zip(COLUMNS[1:], row[1:], strict=True) if cell)
        print(*said, "", sep="\n", file=out)
    else:
        print(*_said(text), "", sep="\n", file=out)
    print("knobs:", file=out)
    rows = [(name, repr(default), _kind(kind)) for name, (kind, default) in knobs(entry).items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)] if rows else [0, 0]
    for name, default, kind in rows:
        print(f"  {name:{widths[0]}} = {default:{widths[1]}}  {kind}", file=out)
    return out.getvalue().rstrip()


def _said(text: str) -> list[str]:
    """What a problem says of itself at the knobs that ``text`` gives and seed 0."""
    try:
        made = build_problem(text, Draw(0))
    except Unsupported as reason:
        return [f"{NO_DATA}: {reason}"]
    value = "unknown" if made.phi_star is None else f"{made.phi_star:.10g}"
    return [
        f"variables: {made.x0.numel()} above, {made.y0.numel()} below; rows of data: {made.n_f} in f, {made.n_g} in g",
        f"flags: {', '.join(flag for flag in FLAGS if flag in made.flags) or 'none'}",
        f"Phi*: {value}" + (f", {made.phi_star_source}" if made.phi_star_source else ""),
        *([f"y*(x): {made.chosen}"] if made.chosen else []),
    ]


def suited(text: str) -> str:
    """Which solvers can take a problem, at its knobs and seed 0, and what the published reference says of its kinds."""
    from .report import which
    from .run.describe import describe_problem

    made = build_problem(text, Draw(0))
    able, refused = [], {}
    for name in SOLVERS.names():
        solver = SOLVERS.entries[name].make()
        try:
            require(solver, made)
            if solver.order == 2 and "once" in made.flags:
                raise Unsupported("it asks for second derivatives, which this problem does not have")
            able.append(name)
        except Unsupported as reason:
            refused[name] = str(reason)
    return which.told(describe_problem(text, made, iterates=False), able, refused, which.published())


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(regenerated(page.read_text(encoding="utf-8")), encoding="utf-8")
