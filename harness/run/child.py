"""Tasks in processes of their own, as the driver sees them: started, heard, ended.

On Linux a task is a fork of a server (``run.server``); elsewhere it is a fresh interpreter. What that lacks on macOS
and Windows: a task's own children are not ended with it, and a task that holds the interpreter lock outlives a driver
that was killed until it lets go of the lock.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.connection
import os
import pickle
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

LARGEST = 1 << 20  # bytes of a message
NUMBER = struct.Struct("<q")
# Read when the libraries are loaded: a server must not have threads. A run that is given some sets them itself.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Teller:
    """A task's way to say something to the driver: small JSON messages that come whole or not at all."""

    def __init__(self, send: Callable[[bytes], Any]) -> None:
        self._send = send

    def __call__(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the driver is gone, and so will this process be
            self._send(json.dumps(message).encode())


class Task:
    """One task under way. ``status`` is its wait status once it has ended, else None."""

    def __init__(self, ear: Any, receive: Callable[[], bytes | None], kill: Callable[[], None]) -> None:
        self.ear, self._receive, self.kill = ear, receive, kill
        self.status: int | None = None
        self.mute = False  # it has closed its mouth, and is still there

    def heard(self) -> Iterator[dict[str, Any]]:
        """The messages that have come."""
        while (message := self._receive()) is not None:
            if not message:
                self.mute = True
                return
            with contextlib.suppress(ValueError):  # a task can say what it likes
                said = json.loads(message)
                if isinstance(said, dict):
                    yield said

    def close(self) -> None:
        """Hear no more."""
        self.ear.close()


class ForkServer:
    """Starts tasks by asking a server to fork. A context manager; leaving it ends whatever still runs."""

    def __init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None  # until the first task: a request may be refused

    def _open(self) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bilevelbench.run.server", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )  # fmt: skip
        theirs.close()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._door.close()  # the server ends its tasks
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def start(self, call: str, argument: Any) -> Task:
        """Start ``call(argument, tell)`` in a process of its own, which imports ``call``, a ``module:function``."""
        if self._process is not None and self._process.poll() is not None:  # killed from outside, and its tasks, too
            self._lost()
        if self._process is None:
            self._open()
        self._count += 1
        ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        task = Task(ear, partial(_message, ear), partial(self._say, self._count))
        self._tasks[self._count] = task
        work = pickle.dumps((call, argument))
        with contextlib.suppress(ConnectionError):  # found at the next ``wait``
            socket.send_fds(self._door, [NUMBER.pack(self._count) + work], [mouth.fileno()])
        mouth.close()
        return task

    def _say(self, message: int) -> None:
        with contextlib.suppress(ConnectionError):
            self._door.send(NUMBER.pack(message))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until a task says something or ends, or for so many seconds. Sets ``status`` of those that ended."""
        if self._process is None:  # nothing is under way
            time.sleep(seconds or 0.0)
            return
        ears = [task.ear for task in self._tasks.values() if not task.mute]
        ready, _, _ = select.select([self._door, *ears], [], [], seconds)
        if self._door not in ready:
            return
        while True:
            message = _message(self._door)
            if message is None:
                return
            if not message:
                self._lost()
                return
            number, status = json.loads(message)
            if number in self._tasks:
                self._tasks.pop(number).status = status

    def _lost(self) -> None:
        """The server is gone, and with it every task, as if each had been killed."""
        assert self._process is not None
        self._process.wait()
        self._process = None
        self._door.close()
        for task in self._tasks.values():
            task.status = signal.SIGKILL
        self._tasks.clear()


def _message(ear: socket.socket) -> bytes | None:
    """A message that has come, empty where nobody is left to say one; None where none has come yet."""
    try:
        return ear.recv(LARGEST, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


class Interpreters:
    """Starts each task in a fresh interpreter, where there is no fork to be had. Used like ``ForkServer``."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._running: list[tuple[Any, Task]] = []
        os.environ |= dict.fromkeys(THREADS, "1")

    def __enter__(self) -> Interpreters:
        return self

    def __exit__(self, *_: object) -> None:
        for running, _task in self._running:
            running.kill()
            running.join()

    def start(self, call: str, argument: Any) -> Task:
        """Start ``call(argument, tell)`` in a process of its own, which imports ``call``, a ``module:function``."""
        ear, mouth = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_speak, args=(call, argument, mouth), daemon=True)
        process.start()
        mouth.close()
        task = Task(ear, partial(_said, ear), process.kill)
        self._running.append((process, task))
        return task

    def wait(self, seconds: float | None = None) -> None:
        """Wait until a task says something or ends, or for so many seconds. Sets ``status`` of those that ended."""
        watched: list[Any] = [process.sentinel for process, _ in self._running]
        watched += [task.ear for _, task in self._running if not task.mute]
        multiprocessing.connection.wait(watched, seconds)
        for process, task in [*self._running]:
            if not process.is_alive():
                process.join()
                code = process.exitcode
                task.status = -code if code < 0 else code << 8
                self._running.remove((process, task))


def _speak(call: str, argument: Any, mouth: Any) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pkgutil.resolve_name(call)(argument, Teller(mouth.send_bytes))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _said(ear: Any) -> bytes | None:
    try:
        return ear.recv_bytes() if ear.poll() else None
    except (OSError, EOFError):
        return b""


def processes() -> ForkServer | Interpreters:
    """How tasks are started on this system."""
    return ForkServer() if sys.platform == "linux" else Interpreters()
