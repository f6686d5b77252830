"""A page for each solver and each problem that comes with the package, made of what its file says of itself."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bilevelbench.api import columns
from bilevelbench.catalogue import COLUMNS, PROBLEM_COLUMNS, claim_markdown, problem_rows, solver_rows
from bilevelbench.core.problem import FLAGS
from bilevelbench.core.registry import PROBLEMS, SOLVERS, Entry
from bilevelbench.core.resolve import knobs

KINDS = {"solvers": SOLVERS, "problems": PROBLEMS}
FIELD = re.compile(r"^    (\w+): [^#\n]*?(?:#\s*(.*))?$", re.MULTILINE)
ABOUT = {
    "solvers": "One algorithm, one file, one paper. Each page has what the file says of itself, its knobs, and its "
    "code, which is written to be read beside the paper's pseudocode. The notation is that of the "
    "[method](../method.md#notation).",
    "problems": "One problem, one file. A page has the formulas, the source, what is known of the solution, and the "
    "failure of solvers that the problem shows; sizes are those of the default knobs.",
}
WIDE = "---\nhtml_theme.sidebar_secondary.remove: true\n---"  # room for the code
CERTIFICATES = (
    "On g = y'Ay/2 - y'(Bx + b) + x'Qx/2 with a quadratic f, theory says where each solver ends. W(M) is the root of "
    "df/dx + B'M df/dy at y\\*(x): the limit of a method that uses M in place of $A^{-1}$, so that x\\* = W($A^{-1}$). "
    "`bilevelbench check NAME` holds a solver to the certificate that it names."
)
TABLES = {
    "runs": (columns.RUNS, "A row for each run."),
    "looks": (columns.LOOKS | columns.METRICS, "A row for each look at a run; the problem's own metrics come last."),
    "targets": (columns.TARGETS, "A row for each run and target."),
}


def prose(text: str) -> str:
    """A docstring as Markdown that shows what stands in it: a line for each paragraph, signs as they are."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n").rstrip()):
        if paragraph.startswith("    "):
            paragraphs.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        else:
            paragraphs.append(escaped(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs)


def escaped(text: str) -> str:
    """A line in which nothing is markup but ``code``."""
    parts = re.split(r"``(.+?)``", text)
    parts[::2] = [re.sub(r"([\\`*_{}\[\]<>$~|#])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; cells are Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def kind_of(hint: Any) -> str:
    """A type as people say it."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def comments(make: Any) -> dict[str, str]:
    """What stands beside the knobs in the source, those of the classes that it inherits first."""
    classes = reversed(make.__mro__[:-1]) if inspect.isclass(make) else ()
    found: dict[str, str] = {}
    for cls in classes:
        if dataclasses.is_dataclass(cls):
            found |= {name: said for name, said in FIELD.findall(inspect.getsource(cls)) if said}
    return found


def page(registry: str, entry: Entry, facts: str) -> str:
    """The page of a solver or a problem."""
    said = comments(entry.make)
    rows = [
        [f"`{name}`", escaped(kind_of(hint)), f"`{default!r}`", escaped(said.get(name, ""))]
        for name, (hint, default) in knobs(entry).items()
    ]
    heads = ("knob", "type", "default", "meaning") if registry == "solvers" else ("knob", "type", "default")
    shown = table(heads, [row[: len(heads)] for row in rows]) if rows else "It has no knobs."
    code = entry.file.read_text(encoding="utf-8")
    parts = [
        WIDE, f"# {entry.name}", prose(entry.doc), facts, "## Knobs", shown, f"## Code: {registry}/{entry.file.name}",
        f"```python\n{code}```",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def solver_facts(row: tuple[str, ...]) -> str:
    """What a solver says of itself, of which the harness holds it to everything."""
    said = dict(zip(COLUMNS[1:], row[1:], strict=True))
    unverified = SOLVERS.entries[row[0]].make.unverified
    rows = [[name, escaped(value)] for name, value in said.items() if value]
    warning = f"\n\n```{{warning}}\nNot verified against its paper: {escaped(unverified)}\n```" if unverified else ""
    return table(("", ""), rows) + warning


def problem_facts(row: tuple[str, ...]) -> str:
    """What is known of a problem at its default knobs."""
    said = dict(zip(PROBLEM_COLUMNS[1:], row[1:], strict=True))
    flags = [[f"`{flag}`", escaped(FLAGS[flag])] for flag in said.pop("flags").split(", ") if flag in FLAGS]
    rows = [[escaped(name), escaped(value)] for name, value in said.items() if value]
    return table(("", ""), [*rows, *flags])


def pages(registry: str) -> Iterator[tuple[str, str]]:
    """(name, content) of every page of a kind, the index first."""
    known = KINDS[registry]
    known.load()
    ours = [name for name in known.names() if known.entries[name].make.__module__.startswith("bilevelbench.")]
    if registry == "solvers":
        rows, facts = solver_rows(ours=True), solver_facts
        heads = ("solver", "family", "order", "certificate", "memory")
        cells = [[f"[`{row[0]}`]({row[0]}.md)", *map(escaped, row[1:5])] for row in rows]
    else:
        rows, facts = problem_rows(ours), problem_facts
        heads = ("problem", "what it shows")
        cells = [[f"[`{row[0]}`]({row[0]}.md)", escaped(row[5])] for row in rows]
    names = "\n".join(row[0] for row in rows)
    toctree = f"```{{toctree}}\n:hidden:\n\n{names}\n```"
    more = f"## Certificates\n\n{CERTIFICATES}\n\n{claim_markdown()}" if registry == "solvers" else ""
    parts = f"# {registry.capitalize()}", ABOUT[registry], table(heads, cells), more, toctree
    yield "index", "\n\n".join(filter(None, parts)) + "\n"
    for row in rows:
        yield row[0], page(registry, known.entries[row[0]], facts(row))


def column_page() -> str:
    """What stands in the tables of ``Results``."""
    parts = ["# Columns", "What stands in the tables of a `Results`. What a run lacks is NaN."]
    for name, (known, about) in TABLES.items():
        rows = [[f"`{column}`", escaped(text)] for column, text in known.items()]
        parts += [f"## {name}", about, table(("column", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _write(app: Any) -> None:
    top = Path(app.srcdir)
    made = {f"{registry}/{name}.md": content for registry in KINDS for name, content in pages(registry)}
    for name, content in (made | {"columns.md": column_page()}).items():
        path = top / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:  # or Sphinx reads it anew
            path.write_text(content, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx; before it looks what documents there are."""
    app.connect("builder-inited", _write, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
