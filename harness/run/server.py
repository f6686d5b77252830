"""The fork server: a process that has imported torch and run none of its operations, and forks one for each task.

A fork costs a hundredth of importing torch, and what one task patches, keeps or changes (working directory, limits,
threads, globals) never reaches the next. The server itself runs nothing foreign, so it always answers:

* It leads each task in a session of its own and ends what is left of that session when the task ends.
* It adopts what a task's children leave behind (Linux: a child subreaper) and ends that, too.
* When its door closes, because the driver has ended or was killed, it ends every task by SIGKILL, which a task that
  holds the interpreter lock cannot put off. When the server itself is killed the kernel does that (PR_SET_PDEATHSIG).

What is said over the door: in, a task's number and its pickled ``(name of a function, argument)``, which only the
fork unpickles, with the descriptor by which the task speaks; or a number alone, whose task is to be killed. Out, JSON
``[number, wait status]``. Messages keep their boundaries.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import pkgutil
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from bilevelbench.measure.manifest import Manifest

from .child import LARGEST, NUMBER, Teller

PDEATHSIG, SUBREAPER = 1, 36  # of prctl(2)
# What torch would otherwise import within the first second-order product, for seconds, and what a run needs of ours.
NEEDED = (
    "torch.fx.experimental.symbolic_shapes", "torch.nested._internal.nested_tensor",
    "torch.fx.experimental._constant_symnode", "bilevelbench.run.worker", "bilevelbench.run.names",
)  # fmt: skip


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def prepare() -> None:
    """Import what every task needs, and nothing foreign: packages that register by entry points wait for a task."""
    Manifest()  # first of all: it sees what is ours as it is imported, and each task takes it over
    for name in NEEDED:
        importlib.import_module(name)
    from bilevelbench.core.registry import PROBLEMS, SOLVERS

    SOLVERS.load_own()
    PROBLEMS.load_own()
    gc.collect()
    gc.freeze()  # what is here stays, in pages that the tasks share


class Server:
    """Forks tasks until the door closes."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._running: dict[int, int] = {}  # process -> number of its task

    def serve(self) -> None:
        """The loop."""
        prctl(SUBREAPER, 1)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the driver's affair
        try:
            while True:
                ready, _, _ = select.select([self._door.fileno(), woken], [], [])
                if woken in ready:
                    os.read(woken, 4096)
                    self._reap()
                if self._door.fileno() in ready and not self._obey():
                    return
        finally:
            self._end_everything()

    def _end_everything(self) -> None:
        """All tasks and what they leave; what a task leaves is adopted when the task is gone, and not before."""
        for process in self._running:
            _end(process)
        while True:
            _end_all(_children())
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _obey(self) -> bool:
        """Do what the driver asks; False where it is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._door, LARGEST, 1)
        except ConnectionError:
            return False
        if not message:
            return False
        (number,), work = NUMBER.unpack_from(message), message[NUMBER.size :]
        if not work:
            for process, other in self._running.items():
                if other == number:
                    _end(process)
            return True
        process = os.fork()
        if process == 0:
            self._door.close()
            _become(work, Teller(socket.socket(fileno=descriptors[0]).send))
        os.close(descriptors[0])
        self._running[process] = number
        return True

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            number = self._running.pop(process, None)
            if number is not None:
                _end(process)  # its session: the children that it left
                _end_all(child for child in _children() if child not in self._running)  # those of other sessions
                with contextlib.suppress(ConnectionError):
                    self._door.send(json.dumps([number, status]).encode())


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _end_all(processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _children() -> list[int]:
    """This process's children, adopted ones included, where the system tells them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def _become(work: bytes, tell: Teller) -> None:
    """Be the task, in the forked process. Never returns."""
    code = 1
    try:
        lone(os.getppid())
        Manifest()  # what this task reads is noted for it alone
        call, argument = pickle.loads(work)  # from the driver, which runs nothing foreign
        pkgutil.resolve_name(call)(argument, tell)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)  # nothing that was registered for the end runs: the record is written


def lone(parent: int) -> None:
    """A session of its own, default signals, no input, and an end with its parent."""
    os.setsid()
    prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before that was in force
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for name in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def main() -> None:
    """The server's process: its door is the descriptor given as the only argument."""
    door = socket.socket(fileno=int(sys.argv[1]))
    prepare()
    Server(door).serve()


if __name__ == "__main__":
    main()
