"""A stranger's texts made fit to be shown: printable, of bounded length, and still told apart."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

MOST_NAME, MOST_TRACEBACK = 300, 20_000  # characters


def clean(text: str, most: int = MOST_NAME) -> str:
    """On one line, without what is not printed (controls, halves of surrogate pairs, changes of direction), cut with
    an ellipsis."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def lines(text: str, most: int = MOST_TRACEBACK) -> str:
    """The same for a text of several lines, of which the end is what counts."""
    if len(text) > most:
        text = "…" + text[1 - most :]
    return "\n".join(clean(line, most) for line in text.split("\n"))


def tidy(value: Any) -> Any:
    """A header or a part of it with all its texts cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): tidy(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [tidy(inner) for inner in value] if value and not isinstance(value[0], float) else value
    return value


def apart(texts: Mapping[str, str], most: int = MOST_NAME) -> dict[str, str]:
    """What each text is shown as, by what it stands for. What is different is shown differently: where cutting and
    cleaning has made two equal, or a text says nothing, digits that stand for the whole of it are added; what needs no
    change keeps its name."""
    shown: dict[str, str] = {}
    taken: set[str] = set()
    for whole in sorted(
        texts, key=lambda whole: (clean(texts[whole], most) != texts[whole], whole)
    ):  # those as they are
        name, salt = clean(texts[whole], most).strip(), 0
        while not name or name in taken:
            mark = f" ({zlib.crc32(f'{salt}{whole}'.encode(errors='backslashreplace')):08x})"
            name, salt = clean(texts[whole], most - len(mark)).strip() + mark, salt + 1
        shown[whole] = name
        taken.add(name)
    return shown
