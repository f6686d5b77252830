"""The windows of a run that were kept (``measure.marks``), as the driver sees them, who draws one for the audit."""

from __future__ import annotations

import secrets
from pathlib import Path


def windows(folder: Path) -> list[tuple[int, int]]:
    """The windows (from, to) that were written, in order; (0, 0) is the solver's start."""
    return sorted((int(a), int(b)) for file in folder.glob("*.pt") for a, _, b in [file.stem.partition("-")])


def draw(folder: Path) -> tuple[int, int]:
    """A window for the audit, each the likelier the more steps it has. LookupError where none was written."""
    found = [window for window in windows(folder) if window[1] > window[0]]
    if not found:
        raise LookupError(f"{folder} holds no window of steps")
    at = secrets.randbelow(sum(end - begin for begin, end in found))
    for begin, end in found:
        at -= end - begin
        if at < 0:
            break
    return begin, end
