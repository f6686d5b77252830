"""Docstrings are written to be read as they are: y*(x) is no emphasis and |y| no substitution."""

import re
from typing import Any

MARKED = re.compile(r"(``.*?``|:\w+:`.*?`)")


def plain(line: str) -> str:
    """A line in which signs that mean something to reStructuredText stand for themselves, but for ``code``."""
    parts = MARKED.split(line)
    parts[::2] = [re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", re.sub(r"([*|])", r"\\\1", part)) for part in parts[::2]]
    return "".join(parts)


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line if line.lstrip().startswith(">>>") else plain(line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx. Before numpydoc, which adds markup that is meant."""
    app.connect("autodoc-process-docstring", _escape, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
