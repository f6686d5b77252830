"""Work in a fork of this process, so that what it patches, keeps or starts is gone with it."""

import contextlib
import os
import pickle
import pkgutil
import signal
import socket
import time
import traceback
import warnings
from functools import partial

from bilevelbench.run.child import Task, Teller, _message


def fork():
    """``os.fork``, without what Python says since 3.12 of the threads that are not in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def forked(work, *arguments):
    """What ``work`` answers there; what it raises is raised here, as text."""
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        try:
            answer = True, work(*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writer, "wb") as out:
            pickle.dump(answer, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        content = source.read()
    os.waitpid(child, 0)
    good, answer = pickle.loads(content)
    assert good, answer
    return answer


class Forks:
    """Starts a task by a fork of this process, which has imported what it needs; as ``ForkServer`` is used."""

    def __init__(self):
        self._running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def start(self, call, argument):
        ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = fork()
        if process == 0:
            try:
                pkgutil.resolve_name(call)(argument, Teller(mouth.send))
            finally:
                os._exit(0)
        mouth.close()
        task = Task(ear, partial(_message, ear), partial(os.kill, process, signal.SIGKILL))
        self._running[process] = task
        return task

    def wait(self, seconds=None):
        for process in list(self._running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                self._running.pop(process).status = status
                return
        time.sleep(0.005)
