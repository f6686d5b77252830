"""A file's digest, and the marks (size, times, inode) by which it is known to be the same without being read."""

from __future__ import annotations

import hashlib
import os
import time

YOUNG = 2.0  # seconds: a file as new as that may change and keep its times

Mark = tuple[int, ...]


def hash_of(path: str) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest_of(content: bytes) -> str:
    """The digest of a file with this content."""
    return hashlib.sha256(content).hexdigest()[:16]


def mark_of(found: os.stat_result) -> Mark:
    """What changes with a file's content, unless it is young."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def is_young(mark: Mark) -> bool:
    """Whether a file was changed a moment ago."""
    return time.time() - max(mark[1:3]) / 1e9 < YOUNG


_hashed: dict[str, tuple[Mark, str]] = {}


def hash_now(path: str, missing: str) -> str:
    """The digest of a file as it is now, or ``missing``; hashed once per process as long as its mark stays."""
    try:
        mark = mark_of(os.stat(path))
    except (OSError, ValueError):
        return missing
    known, digest = _hashed.get(path, ((), ""))
    if known == mark:
        return digest
    try:
        digest = hash_of(path)
    except OSError:
        return "unreadable"
    if not is_young(mark):
        _hashed[path] = mark, digest
    return digest
