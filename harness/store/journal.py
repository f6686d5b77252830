"""Append-only files of JSON lines, one per run. What is whole is read, what is not is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from .schema import CUT, FINAL, SCHEMA, Header, Row, dumps

NEEDED = {"step", "status", "metrics", "calls"}  # of a row


class Journal:
    """Writes one run's file: the header first, then each row as it comes, flushed to the system at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: Header) -> None:
        """Start the file with its header; a file of an earlier, unfinished try is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(dumps(header) + "\n", encoding="utf-8")

    def append(self, row: Row) -> None:
        """Add a row. A line that a killed process left half-written is dropped first."""
        with self.path.open("r+b") as file:
            content = file.read()
            file.seek(content.rfind(b"\n") + 1)
            file.write((dumps(row) + "\n").encode())
            file.truncate()


@dataclass
class Record:
    """One run's file as read: header and rows as dictionaries; ``trouble`` is one sentence about what is not whole."""

    path: Path
    header: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    @property
    def status(self) -> str:
        """The run's last status; ``cut off`` where it has no final one."""
        last = self.rows[-1]["status"] if self.rows else ""
        return last if last in FINAL else CUT


def read(path: Path) -> Record:
    """Read one file. Never raises on content: a foreign or half-written file has ``trouble``."""
    record = Record(path)
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        record.trouble = f"{path} cannot be read ({type(error).__name__}); move it out of the results folder"
        return record
    header = _parse(first)
    if header is None or header.get("kind") != "header" or not {"key", "problem", "solver"} <= set(header):
        record.trouble = f"{path} is no bilevelbench result (no header in line 1); move it out of the results folder"
        return record
    if header.get("schema") != SCHEMA:
        record.trouble = (
            f"{path} has schema {header.get('schema')!r}, this version reads {SCHEMA}; "
            "read it with the bilevelbench that wrote it"
        )
        return record
    record.header = header
    record.rows = _all_rows(rest) or []
    if not record.rows:
        for number, line in enumerate(rest.split("\n"), start=2):
            if line and not _is_row(row := _parse(line)):
                record.trouble = f"{path} is half-written: line {number} is not whole; the lines before it are kept"
                break
            if line and row is not None:
                record.rows.append(row)
    if not record.trouble and record.status == CUT:
        record.trouble = f"{path} is half-written: its run was cut off; the same run command resumes it"
    return record


def _all_rows(text: str) -> list[dict[str, Any]] | None:
    """The rows of a file of which every line is whole, parsed at once; None for any other."""
    lines = text.removesuffix("\n")
    try:
        values = orjson.loads(f"[{lines.replace(chr(10), ',')}]")
    except ValueError:
        return None
    return values if len(values) == lines.count("\n") + 1 and all(map(_is_row, values)) else None


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and value.get("kind") == "row" and value.keys() >= NEEDED


def _parse(line: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except ValueError:
        try:
            value = json.loads(line)  # it takes more, as half a surrogate pair in the name of a file
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def read_folder(folder: Path) -> list[Record]:
    """All ``*.jsonl`` files of a folder, sorted by name."""
    return [read(path) for path in sorted(folder.glob("*.jsonl"))]
