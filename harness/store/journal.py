"""Append-only files of JSON lines, one per run. What is whole is read, what is not is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from . import files
from .lines import parse
from .order import chain, in_order
from .schema import CUT, FINAL, KNOWN_SCHEMAS, End, Header, Row, dumps
from .shapes import ROW, EndShape, HeaderShape, RowShape, shaped

MOST_LINES = 2_000_000  # of a file that is read
TORN = 2**16  # bytes in which the last newline is sought first


class Journal:
    """Writes one run's file, each line with one write and on its way to the disk before the caller goes on.

    One writer a file: nothing that is in it is read again, but for a last line that a killed process left half-written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def begin(self, header: Header) -> None:
        """Start the file with its header; a file of an earlier, unfinished try is replaced."""
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._handle = files.create(self.path, os.O_APPEND)
        self._write(header)

    def append(self, row: Row) -> None:
        """Add a row."""
        self._write(row)

    def end(self, end: End) -> None:
        """Add the last line, and wait until all is on the disk."""
        self._write(end)
        os.fsync(self._opened())

    def close(self) -> None:
        """Let go of the file; appending opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _write(self, record: Header | Row | End) -> None:
        line, handle = (dumps(record) + "\n").encode(), self._opened()
        written = os.write(handle, line)
        if written != len(line):  # a full disk; what is half there is not to be continued
            os.ftruncate(handle, os.fstat(handle).st_size - written)
            raise OSError(28, "no space left on the device", str(self.path))

    def _opened(self) -> int:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | files.NOFOLLOW)
            _drop_half_line(self._handle)
        return self._handle


def _drop_half_line(handle: int) -> None:
    size = end = os.fstat(handle).st_size
    while end:
        start = max(0, end - TORN)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


@dataclass
class Record:
    """One run's file as read: its lines as dictionaries; ``troubles`` has a sentence for each thing that is not whole.

    ``header`` is None where the file is none of ours; ``end`` is empty where nothing was published. ``mark``: the file
    that was read, see ``files.mark``.
    """

    path: Path
    header: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    mark: tuple[int, ...] = ()

    @property
    def ended(self) -> str:
        """The final status that the rows say, published or not; '' where they say none."""
        last = self.rows[-1]["status"] if self.rows else ""
        return last if last in FINAL else ""

    @property
    def status(self) -> str:
        """The run's last status; ``cut off`` where it has no final one, or was not published."""
        return CUT if self.path.suffix == files.PART else self.ended or CUT

    @property
    def fault(self) -> str:
        """Whose it is that the run did not end well. The first schema did not ask: all was the solver's."""
        if self.header is not None and self.header["schema"] == 1:
            return "" if self.status in ("done", "unsupported") else "solver"
        return str(self.rows[-1].get("fault", "")) if self.status != CUT else ""


def read(path: Path, rows: Callable[[bytes], list[dict[str, Any]] | None] | None = None) -> Record:
    """Read one file. Never raises on content: a foreign or damaged file has ``troubles``, and what is whole of it.

    ``rows``: what is to be kept of the lines of the rows, None where these are not whole; all rows by default.
    """
    record = Record(path)
    try:
        record.mark, data = files.content(path)
        first, _, rest = data.partition(b"\n")
        if len(rest) > MOST_LINES and rest.count(b"\n") > MOST_LINES:
            raise files.Unreadable(f"has more than {MOST_LINES} lines")
        record.header = _header(first)
    except files.Unreadable as error:
        record.troubles.append(f"{shown(path)} {error}; move it out of the results folder")
        return record
    last = rest.rfind(b"\n", 0, -1) + 1
    end = parse(rest[last:]) if rest.startswith(b'{"kind":"end"', last) else None
    found = (rows or whole)(rest[:last] if end else rest)
    if found is not None and (not end or not shaped(end, EndShape)):
        record.rows, record.end = found, end or {}
    else:
        _salvage(record, rest.split(b"\n"))
    if record.header["schema"] == 1 and record.rows and record.rows[-1].get("after"):
        record.end = {"kind": "end", "after": record.rows[-1].pop("after")}
    if record.status == CUT:
        record.troubles.append(f"{shown(path)} is half-written: its run was cut off; the same run command makes it")
    elif not record.end and record.header["schema"] > 1:
        record.troubles.append(f"{shown(path)} has lost its last line, which says how the run was made")
    return record


def read_folder(folder: Path) -> list[Record]:
    """The runs of a folder and of its sub-folders, by name: see ``files.records``."""
    return [read(path) for path in files.records(folder)]


def shown(path: Path) -> str:
    """A path as text that can be printed, whatever a stranger has called it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(path))


def _header(line: bytes) -> dict[str, Any]:
    header = parse(line)
    if header is None or header.get("kind") != "header" or not {"key", "problem", "solver"} <= set(header):
        raise files.Unreadable("is no bilevelbench result (no header in line 1)")
    schema = header.get("schema")
    if schema not in KNOWN_SCHEMAS or isinstance(schema, bool):
        known = " and ".join(map(str, KNOWN_SCHEMAS))
        raise files.Unreadable(
            f"has schema {str(schema)[:20]}, this version reads {known}: read it with the bilevelbench that wrote it"
        )
    if wrong := shaped(header, HeaderShape):
        raise files.Unreadable(f"has a damaged header ({wrong})")
    return header


def whole(lines: bytes) -> list[dict[str, Any]] | None:
    """The rows of a file that is whole and in order, parsed at once; None for any other."""
    try:
        rows: list[dict[str, Any]] = ROW.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return rows if in_order(rows) else None


def _salvage(record: Record, lines: list[bytes]) -> None:
    """The rows of a damaged file that can be read and are in order, and a sentence for the others."""
    rows: dict[int, dict[str, Any]] = {}
    bad: list[int] = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        value = parse(line)
        kind = value.get("kind") if value else None
        if value and kind == "row" and not shaped(value, RowShape):
            rows[number] = msgspec.convert(value, RowShape)
        elif value and kind == "end" and not record.end and not shaped(value, EndShape):
            record.end = value
        else:
            bad.append(number)
    kept = chain(list(rows.values()))
    apart = [number for k, number in enumerate(rows) if k not in kept]
    record.rows = [row for k, row in enumerate(rows.values()) if k in kept]
    where = shown(record.path)
    if bad:
        torn = bad == [len(lines) + 1]  # without a newline: the writer was killed
        record.troubles.append(f"{where}: {_lines(bad)} {'half-written' if torn else 'damaged'} and left out")
    if apart:
        record.troubles.append(
            f"{where}: {_lines(apart)} out of order (steps must rise, seconds and counts must not fall) and left out"
        )


def _lines(numbers: Iterable[int]) -> str:
    few, more = list(numbers)[:5], len(list(numbers)) - 5
    names = ", ".join(map(str, few)) + (f" and {more} more" if more > 0 else "")
    return f"line {names} is" if len(few) == 1 else f"lines {names} are"
