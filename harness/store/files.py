"""The files of a results folder: what they are called, and how a stranger's are opened and written.

What lies in a folder is never followed where it is a symbolic link, and is opened only where it is a plain file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .schema import RunKey

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # no room on the disk, or no more of it for this user
FINAL, PART = ".jsonl", ".part"
MOST_BYTES = 256 * 2**20  # of a file that is read
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_STEM = re.compile(r"(.+-s\d+-[0-9a-f]{16})(-[0-9a-f]{8})?\.")


class Unreadable(Exception):
    """A file that is not read, with the reason."""


def place(environment: dict[str, Any]) -> str:
    """8 hexadecimal digits of what a run was made on: processor, architecture, torch, Python and BLAS; GPU and CUDA
    where it used them."""
    architecture = str(environment.get("system") or "").rpartition(" ")[2]
    names = ("cpu", "torch", "python", "blas", "gpu", "cuda")
    text = repr([architecture, *(str(environment.get(name) or "") for name in names)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def final_name(key: RunKey, place: str) -> str:
    """What the finished run of a key is called, made at a place."""
    return f"{key.stem}-{place}{FINAL}"


def stem_of(name: str) -> str:
    """The stem of the key in the name of a final file, of a part or of one set aside; '' for any other name."""
    found = _STEM.match(name)
    return found[1] if found and name.endswith((FINAL, PART)) else ""


def finals(folder: Path) -> dict[str, list[Path]]:
    """The final files of a folder by the stem of their key, in the order of their names. One look at the folder."""
    found: dict[str, list[Path]] = {}
    for entry in _entries(folder):
        if _is_final(entry) and (stem := stem_of(entry.name)):
            found.setdefault(stem, []).append(folder / entry.name)
    return found


def _is_final(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(FINAL) and entry.is_file(follow_symlinks=False)


def finals_of(folder: Path, stem: str) -> list[Path]:
    """The final files of one key, in the order of their names, without a look at any other."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(stem))
    except OSError:
        return []
    paths = [folder / name for name in names if name.endswith(FINAL) and stem_of(name) == stem]
    return [path for path in paths if is_plain(path)]


def final(folder: Path, key: RunKey, place: str | None = None) -> Path | None:
    """The final file of a key, made at any place or at this one; None where there is none."""
    if place is None:
        return next(iter(finals(folder).get(key.stem, [])), None)
    path = folder / final_name(key, place)
    return path if is_plain(path) else None


def is_plain(path: Path) -> bool:
    """Whether it is a file, and no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def mark(path: Path) -> tuple[int, ...]:
    """What tells a file from one that took its place; it stays through a renaming."""
    return _mark(os.lstat(path))


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def records(folder: Path, but: Collection[str] = ()) -> list[Path]:
    """The files of runs in a folder and in its sub-folders (one for each machine), by name: the final ones, and parts
    for which there is no final one. ``but``: stems of keys whose ``finals`` are left out."""
    entries = _entries(folder)
    if but:
        entries = [e for e in entries if not (_is_final(e) and stem_of(e.name) in but)]
    inner = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    found = _here(folder, [entry.name for entry in entries])
    for sub in inner:
        found += _here(sub, [entry.name for entry in _entries(sub)])
    return found


def beneath(folder: Path, name: str, suffix: str) -> list[Path]:
    """The files with a suffix in the folder of this name, in a folder of results and in its sub-folders."""
    inner = [Path(e.path) for e in _entries(folder) if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    places = [place for sub in (folder, *inner) for place in _entries(sub) if place.name == name]
    within = [_entries(Path(place.path)) for place in places if place.is_dir(follow_symlinks=False)]
    return [Path(e.path) for entries in within for e in entries if e.name.endswith(suffix) and e.name[0] != "."]


def _here(folder: Path, names: list[str]) -> list[Path]:
    final = {name for name in names if name.endswith(FINAL)}
    parts = [n for n in names if n.endswith(PART) and f"{n.removesuffix(PART).rpartition('.')[0]}{FINAL}" not in final]
    return [folder / name for name in sorted(final) + sorted(parts)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # a folder that is gone, or that may not be read, holds nothing for us
        return []


def content(path: Path, most: int = MOST_BYTES) -> tuple[tuple[int, ...], bytes]:
    """The mark and the bytes of a plain file. ``Unreadable`` for anything else; nothing here waits."""
    with _opened(path) as (handle, found):
        if found.st_size > most:
            raise Unreadable(f"is larger than {most // 2**20} MiB")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return _mark(found), file.read(found.st_size)


def edges(path: Path, first: int, last: int) -> tuple[tuple[int, ...], bytes, bytes]:
    """The mark of a plain file, so many of its first bytes, and of its last that come after them."""
    with _opened(path) as (handle, found):
        if found.st_size <= first + last:  # most are: one reading
            whole = os.read(handle, found.st_size)
            return _mark(found), whole[:first], whole[first:]
        begin = os.read(handle, first)
        start = max(len(begin), found.st_size - last)
        os.lseek(handle, start, os.SEEK_SET)
        return _mark(found), begin, os.read(handle, found.st_size - start)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A plain file. ``Unreadable`` for anything else, and where reading it fails."""
    try:
        handle = os.open(path, os.O_RDONLY | NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise Unreadable("is a symbolic link" if path.is_symlink() else f"cannot be read ({error.strerror})") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is no plain file")
        yield handle, found
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    finally:
        os.close(handle)


def create(path: Path, flags: int = 0) -> int:
    """Open a file that was not there, for writing. ``FileExistsError`` where there is one, or a link."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | flags, 0o666)


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """The path of a private file that takes the place of ``path`` at the end, whatever was there; a link is replaced
    and not followed."""
    private = path.with_name(f".{secrets.token_hex(8)}.tmp")
    os.close(create(private))
    try:
        yield private
        os.replace(private, path)
    finally:
        private.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder to write into. ``OSError`` where it cannot be had or is a symbolic link."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise OSError(20, "it is a symbolic link, and none is followed", str(folder))
