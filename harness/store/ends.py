"""What a file says of its run by how it begins and ends: of a hundred thousand files nobody reads more to go on."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import msgspec

from . import files
from .journal import Record, read
from .lines import parse
from .schema import FINAL, SCHEMA

OURS = f'{{"kind":"header","schema":{SCHEMA},"digest":"'.encode()  # what a file begins with
BEGIN, END = 2**13, 2**15  # bytes that are looked at


class _Where(msgspec.Struct, omit_defaults=True):
    place: str = ""


class _Header(msgspec.Struct, omit_defaults=True):
    """What says whether a finished run stands: all else in a header is passed over."""

    schema: int
    environment: _Where
    timeout: float | None = None


class _Row(msgspec.Struct, omit_defaults=True):
    status: str
    fault: str = ""


_HEADER, _ROW = msgspec.json.Decoder(_Header), msgspec.json.Decoder(_Row)


def ends(path: Path) -> Record:
    """What the first line of a file and its last ones say: of its header schema, place and timeout, of its rows the
    status and fault of the last.

    It takes a fraction of the time of ``read``, which is what reads a file that is not plainly whole.
    """
    try:
        mark, begin, rest = files.edges(path, BEGIN, END)
    except files.Unreadable:
        return read(path)
    first, newline, more = begin.partition(b"\n")
    if len(rest) < END:  # all is there
        rest, more = more + rest, b""
    last = rest.rfind(b"\n", 0, -1) + 1
    row = rest.rfind(b"\n", 0, max(last - 1, 0)) + 1
    if not newline or row == last or (row == 0 and len(rest) >= END):
        return read(path)
    if not rest.startswith(b'{"kind":"end"', last) or not rest.startswith(b'{"kind":"row"', row):
        return read(path)
    try:
        header, line, end = _HEADER.decode(first), _ROW.decode(rest[row:last]), _end(rest[last:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return read(path)
    if header.schema != SCHEMA or line.status not in FINAL or not isinstance((end or {}).get("manifest"), dict):
        return read(path)
    return Record(path, msgspec.to_builtins(header), [msgspec.to_builtins(line)], end or {}, mark=mark)


@functools.lru_cache(64)  # runs of one process have read the same files: the longest of their lines is the same
def _end(line: bytes) -> dict[str, Any] | None:
    return parse(line)


def is_foreign(path: Path) -> str:
    """A sentence where a file is not empty and none of ours, or of a schema that is not read; '' for all others."""
    with contextlib.suppress(files.Unreadable):
        begin = files.edges(path, len(OURS), 0)[1]
        if begin in (OURS, b""):  # one that is damaged further on is ours
            return ""
    record = read(path)
    return record.troubles[0] if record.header is None and files.size(path) else ""
