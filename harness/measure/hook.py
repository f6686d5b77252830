"""What a solver may not do while it is at work: Python tells us before it happens, and we refuse.

The hook (``sys.addaudithook``) cannot be taken off again, and has no switch that could be thrown: whether a solver is
at work is read from the stack. It is while one of our functions that call solvers is there (``core.solver.start`` for
``init``, ``core.solver.stretch`` for steps, ``load_file`` for the import of a loose file), unless, nearer, the
problem's own functions are, which may do what they like, an installed module that is imported, or an engine that
records and compiles a step, which writes caches and starts compilers. So there is nothing to arm: ``install`` is called
once a process, by whatever steps.

Refused in ``init`` and in steps: other processes and threads, the network, files (code may be read, and what is
installed: modules are imported when they are first needed), looking through memory and frames, tracing, ctypes.
Refused in the import of a file: looking through memory, tracing, further hooks. A refusal raises ``Refused`` where the
thing would have happened, and is noted: the run ends in it, even if the solver goes on.

Native code is not seen: a compiled extension can do all of this.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from bilevelbench.core.meter import CODES
from bilevelbench.core.registry import load_file
from bilevelbench.core.solver import start, stretch

from .provenance import roots

HOME = str(Path(__file__).resolve().parents[1]) + os.sep
INSTALLED = tuple(root for root in roots() if not root.endswith((f"bin{os.sep}", f"Scripts{os.sep}")))
READABLE = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/")  # what libraries look at
CODE = (".py", ".pyc", ".so", ".pyd")  # modules are imported, and warnings show lines of them
ATTRIBUTES = (
    "__code__", "__defaults__", "__kwdefaults__", "tb_frame", "f_code",
    "gi_code", "gi_frame", "cr_code", "cr_frame", "ag_code", "ag_frame",
)  # fmt: skip
PROCESSES = "os.fork os.forkpty os.exec os.posix_spawn os.spawn os.system os.kill os.killpg os.startfile pty.spawn"
FILES = (
    "os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.chown os.chflags os.utime "
    "os.setxattr os.getxattr os.removexattr os.chdir"
)
MEMORY = "gc.get_objects gc.get_referrers gc.get_referents sys._current_frames sys._current_exceptions"
TRACING = "sys.setprofile sys.settrace sys.addaudithook sys.set_asyncgen_hooks_firstiter"

LENDING = (f"{os.sep}inspect.py", f"{os.sep}traceback.py")
LOGGING = os.path.join("logging", "__init__.py")

Words = Callable[[str, tuple[Any, ...]], str]  # (event, its arguments) -> what is refused, or '' where nothing is


class Refused(RuntimeError):
    """A solver tried to do what it may not."""

    fault = "solver"


def _told(text: str, what: str) -> dict[str, Words]:
    return {event: lambda event, arguments: what.format(event=event) for event in text.split()}


def _opens(event: str, arguments: tuple[Any, ...]) -> str:
    path, mode, flags = arguments
    if isinstance(path, int):
        return "opens a file descriptor"
    name = os.path.realpath(os.fsdecode(path))
    writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    if (writes or set(str(mode)) & set("wax+")) and name != "/dev/null":
        return f"writes the file {name}"
    if name.startswith((*INSTALLED, *READABLE)):
        return ""
    return "" if name.endswith(CODE) else f"reads the file {name}"


def _looks_inside(event: str, arguments: tuple[Any, ...]) -> str:
    """Frames and code are read by what is installed (warnings, namedtuple, ...) and not by solvers."""
    if event.startswith("object.") and arguments[1] not in ATTRIBUTES:
        return ""
    frame: Any = sys._getframe(2)
    while frame is not None and _lends(frame.f_code):
        frame = frame.f_back
    known = frame is None or frame.f_code.co_filename.startswith(("<frozen", *INSTALLED, HOME))
    return "" if known else "looks into frames and code"


def _lends(code: Any) -> bool:
    """Functions of the standard library that hand frames to whoever asks."""
    in_logging = code.co_filename.endswith(LOGGING) and code.co_name in ("currentframe", "<lambda>")
    return in_logging or code.co_filename.endswith(LENDING)


STEPPING: dict[str, Words] = {
    **_told(PROCESSES, "deals with another process ({event})"),
    **_told("subprocess.Popen", "starts another process"),
    **_told("_thread.start_new_thread _thread.start_joinable_thread", "starts a thread"),
    **_told(FILES, "changes files ({event})"),
    **_told(MEMORY, "looks through memory ({event})"),
    **_told(TRACING, "follows what the harness does ({event})"),
    **_told("mmap.__new__ sqlite3.connect shutil.copyfile shutil.move shutil.rmtree", "keeps things outside ({event})"),
    "open": _opens,
    "object.__getattr__": _looks_inside, "object.__setattr__": _looks_inside, "object.__delattr__": _looks_inside,
    "sys._getframe": _looks_inside, "code.__new__": _looks_inside,
}  # fmt: skip
FAMILIES = {
    "socket": "uses the network ({event})", "ctypes": "calls native code by ctypes ({event})",
    "sys.monitoring": "follows what the harness does ({event})", "urllib": "uses the network ({event})",
}  # fmt: skip
IMPORTING: dict[str, Words] = {
    **_told(MEMORY, "looks through memory ({event})"),
    **_told(TRACING, "follows what the harness does ({event})"),
}
CALLERS = {start.__code__: "in its init", stretch.__code__: "in a step", load_file.__code__: "while it is imported"}
ENGINES = ("traced.py", "answers.py")  # their _find and _build record and compile


@functools.cache
def _words(event: str) -> Words | None:
    for name, what in FAMILIES.items():
        if event.startswith(name + "."):
            return _told(event, what)[event]
    return STEPPING.get(event)


def _at_work() -> str:
    """Where the solver is at work, or ''."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        if code in CALLERS:
            return CALLERS[code]
        imports = code.co_name == "<module>" and code.co_filename.startswith(INSTALLED)
        compiles = code.co_name in ("_find", "_build") and code.co_filename.endswith(ENGINES)
        if code in CODES or imports or compiles:
            return ""
        frame = frame.f_back
    return ""


_noted: list[str] = []


def noted() -> str:
    """The first thing refused since this was last asked, or ''."""
    found = _noted[0] if _noted else ""
    _noted.clear()
    return found


def _refuse(event: str, said: str) -> None:
    """Raise ``Refused``, and note it, where a solver is at work."""
    where = _at_work()
    if where and (event in IMPORTING or where != CALLERS[load_file.__code__]):
        sentence = f"{where} it {said}, which is not for a solver to do"
        _noted.append(sentence)
        raise Refused(sentence)


def _hook() -> Callable[[str, tuple[Any, ...]], None]:
    looking = False  # what we look at ourselves would tell us, too

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal looking
        if looking or (words := _words(event)) is None:
            return
        looking = True
        try:
            if said := words(event, arguments):
                _refuse(event, said)
        finally:
            looking = False

    return hook


begun = count()  # threads that others than a solver started


def _threads() -> None:
    """Up to 3.12 Python does not tell of threads; those of ``threading`` are refused here."""
    begin = threading._start_new_thread  # type: ignore[attr-defined]

    def start_new_thread(*arguments: Any) -> Any:
        _refuse("_thread.start_new_thread", "starts a thread")
        next(begun)
        return begin(*arguments)

    threading._start_new_thread = start_new_thread  # type: ignore[attr-defined]


@functools.cache
def install() -> None:
    """Be told from now on."""
    sys.dont_write_bytecode = True  # what is imported within a step writes no files
    sys.addaudithook(_hook())
    if hasattr(threading, "_start_new_thread"):
        _threads()
