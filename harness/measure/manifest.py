"""What a run read: path and digest of every module and data file that is neither Python's nor an installed package's.

A key says what can be said before a run; a helper that the solver imports, or a file that the problem opens, is known
only once it has run. So the worker keeps a manifest and the record holds it: when a command is repeated ``changed``
hashes the files again, without importing any, and where one differs the run is made again.

Seen is what goes through Python: imports at any time, ``open`` and all that uses it, extension modules, libraries
loaded by ctypes, sqlite; in threads and forked children, too. Not seen are files that native code opens by itself
(HDF5, Arrow, OpenCV), those that other programs read, and listings of folders.

This module is imported before anything foreign is, and does without torch.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import IO, Any

import platformdirs

from .provenance import cache_root, counts, is_foreign, loaded, package_of, roots, source_of
from .stamps import Mark, digest_of, hash_of, is_young, mark_of

ABSENT = "absent"  # a file that was asked for and not there: settings, say
MIXED = "changed during the run"  # no digest equals it


def current() -> Manifest:
    """The manifest of this process, begun now if there is none."""
    return _current or Manifest()


def _shared() -> IO[bytes]:
    """A file without a name, for this process and its forked children; in memory where the system has such a thing: on
    a full disk a note would be lost, or a process end before its run could say why."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("manifest"), "a+b", buffering=0)
    return tempfile.TemporaryFile(mode="a+b", buffering=0)


class Manifest:
    """The files read from now on in this process and its forked children, and the modules that were there before.

    Start one as early as possible: what is loaded already is digested as it is now. A fork server starts one before
    it imports what is ours, and each child another, first of all: it takes over what the first has seen and goes on by
    itself. From then on modules outside of installed packages are compiled from their source, never loaded from
    ``__pycache__``: their digest is that of the very bytes.
    """

    def __init__(self) -> None:
        global _current
        earlier = list(_current._notes()) if _current else []
        self._log = _shared()
        self._known: dict[str, Any] = {}
        self._busy = threading.local()
        if _current is None:
            _listen()
        for note in earlier:
            self._note(*note)
        self._look(loaded())
        _current = self

    def files(self, *own: Path) -> dict[str, str]:
        """Digest by absolute path of all that was read so far.

        ``own``: files of the run's solver and problem. Of the solvers and problems that come with us only these and
        shared pieces count, and where one belongs to an installed package, so do that package's other modules.
        """
        self._busy.now = True
        try:
            self._look(loaded(*filter(None, map(package_of, own))))
            found = {path: digest for path, digest in _settled(self._notes()) if counts(path, own)}
        finally:
            self._busy.now = False
        return dict(sorted(found.items()))

    def _look(self, paths: Iterator[str]) -> None:
        """Note modules that were loaded unseen."""
        for path in paths:
            if path not in self._known:
                self._note(path, "loaded", hash_of(path))

    def _note(self, path: str, how: str, what: Any) -> None:
        """Keep one reading of a file: how it was read and its digest or signature."""
        if self._known.get(path) == (how, what):
            return
        self._known[path] = how, what
        os.write(self._log.fileno(), json.dumps([path, how, what]).encode() + b"\n")

    def _notes(self) -> Iterator[tuple[str, str, Any]]:
        size = os.fstat(self._log.fileno()).st_size
        for line in os.pread(self._log.fileno(), size, 0).splitlines():
            path, how, what = json.loads(line)
            yield path, how, what

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python's audit says: files that are opened, and files and folders that are made."""
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if event == "open":
                self._opened(_path(arguments[0]), arguments[2])
            elif event == "os.rename":
                self._note(_path(arguments[1]), "made", None)
            elif event == "os.mkdir":
                if not os.path.exists(path := _path(arguments[0])):
                    self._note(path + os.sep, "made", None)  # and what is in it
            elif os.path.exists(path := _path(arguments[1 if event == "import" else 0])):  # a library or a database
                self._opened(path, os.O_RDONLY)
        except Exception:  # a descriptor, a name that is no path: the caller goes on as if nobody had looked
            pass
        finally:
            self._busy.now = False

    def _opened(self, path: str, flags: int) -> None:
        if not is_foreign(path):
            return
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        if not flags & (os.O_WRONLY | os.O_TRUNC):
            try:
                self._read(source_of(path), at_once=writes)
            except FileNotFoundError:
                if not writes and not path.startswith(_caches()):
                    self._note(path, "missed", None)
        if writes:
            self._note(path, "made", None)

    def _read(self, path: str, at_once: bool) -> None:
        """A large file is not hashed while a clock may run, unless it is so new that its time stamps mean little."""
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            mark = mark_of(found)
            self._note(path, "read", [mark, hash_of(path) if at_once or is_young(mark) else None])


_current: Manifest | None = None


def _listen() -> None:
    """Hear of every file that Python opens, and compile foreign modules from their source."""
    roots()  # before anybody listens: Python 3.14 imports a module to say where its own are
    events = {"open", "os.rename", "os.mkdir", "import", "sqlite3.connect", "ctypes.dlopen"}

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in events and _current is not None:
            _current.hear(event, arguments)

    sys.addaudithook(hear)
    stats, data = SourceFileLoader.path_stats, SourceFileLoader.get_data

    def path_stats(self: SourceFileLoader, path: str) -> Any:
        if is_foreign(os.path.abspath(path)):
            raise OSError("compiled bytes may be older than their source")  # importlib then reads and keeps none
        return stats(self, path)

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        found = data(self, path)
        place = _path(path)
        if place.endswith(".py") and is_foreign(place) and _current is not None:
            _current._note(place, "loaded", digest_of(found))
        return found

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]


def _caches() -> tuple[str, ...]:
    """Where what is missing today may be there tomorrow, without a difference to what is computed."""
    return str(platformdirs.user_cache_path()), str(cache_root())


def _settled(notes: Iterator[tuple[str, str, Any]]) -> Iterator[tuple[str, str]]:
    """What all readings of each file come to: its digest, ``ABSENT``, or ``MIXED`` where they do not agree."""
    loaded: dict[str, set[str]] = {}
    read: dict[str, list[Any]] = {}
    missed: set[str] = set()
    made: set[str] = set()
    for path, how, what in notes:
        if how == "made":
            made.add(path)
        elif path in made or path.startswith(tuple(folder for folder in made if folder.endswith(os.sep))):
            continue  # the run's own product
        elif how == "missed":
            missed.add(path)
        else:
            (loaded.setdefault(path, set()).add(what) if how == "loaded" else read.setdefault(path, []).append(what))
    for path, digests in loaded.items():  # a later look at the source, as a traceback takes it, does not count
        yield path, digests.pop() if len(digests) == 1 else MIXED
    for path, marks in read.items():
        if path not in loaded:
            digests = {digest or _unchanged(path, tuple(mark)) for mark, digest in marks}
            yield path, digests.pop() if len(digests) == 1 and path not in missed else MIXED
    yield from ((path, ABSENT) for path in missed - made - set(loaded) - set(read))


def _unchanged(path: str, mark: Mark) -> str:
    """The digest of a file that has not changed since it had this signature."""
    try:
        digest = hash_of(path)
        return digest if mark_of(os.stat(path)) == mark else MIXED
    except OSError:
        return MIXED


def _path(given: Any) -> str:
    """The absolute path of an argument of ``open``; TypeError for a descriptor."""
    if isinstance(given, int) or given is None:
        raise TypeError
    return os.path.abspath(os.fsdecode(given))
