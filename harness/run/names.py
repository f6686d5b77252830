"""What a text names, looked up where it may be imported: in this process, or by tasks that a driver starts."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import PluginWarning, RequestError, Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, resolve
from bilevelbench.measure.clock import self_check, work_seconds
from bilevelbench.measure.env import environment
from bilevelbench.store.files import place

from .child import Teller
from .job import Named, Sent, known_device
from .stage import keep_to_memory


def full(kind: str, text: str) -> Named:
    """What a text names. Of a loose file the spec keeps the name alone: the key holds its content, not its place."""
    entry, spec = resolve(SOLVERS if kind == "solver" else PROBLEMS, text)
    return Named(str(spec._replace(file=Path(spec.file).name)), entry.version, entry.file)


def look_up(kind: str, text: str, seed: int) -> Named:
    """What a text names, in this process. A problem is built once: that refuses impossible values.

    A device, too: where it is not there a ``RequestError`` says so.
    """
    if kind == "device":
        check_device(text)
        return Named(text, 0, Path())
    named = full(kind, text)
    if kind == "problem":
        with contextlib.suppress(Unsupported):  # a row will say so
            build_problem(text, Draw(seed))
    return named


def check_device(device: str) -> None:
    """Raise a ``RequestError`` where the device is not there."""
    known_device(device)
    if device.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        raise RequestError(f"device {device}: this machine has no CUDA device; choose cpu")


def describe_machine(device: str, tell: Teller) -> None:
    """A task: what the machine is."""
    found = environment(device)
    tell(environment=found | {"clock": self_check(device), "work_seconds": work_seconds(), "place": place(found)})


def describe_solvers(_: None, tell: Teller) -> None:
    """A task: the names of all solvers."""
    tell(begun=True)
    receive(())
    tell(solvers=SOLVERS.names(), broken=SOLVERS.broken)


def receive(sent: Sent) -> None:
    """What a task does first: it knows where definitions are, and leaves it to the driver to warn of plug-ins."""
    warnings.simplefilter("ignore", PluginWarning)
    for kind, name, path in sent:
        (SOLVERS if kind == "solver" else PROBLEMS).defined[name] = Path(path)


def describe(asked: tuple[str, str, int, Sent], tell: Teller) -> None:
    """A task: what a text names. It is told before the problem is built, which may fail in ways of its own."""
    kind, text, seed, sent = asked
    tell(begun=True)
    receive(sent)
    keep_to_memory()  # a problem that is too large is told so by its run
    try:
        if kind != "device":
            named = full(kind, text)
            tell(named=[named.spec, named.version, str(named.file)])
        look_up(kind, text, seed)
    except RequestError as error:
        tell(refused=str(error))
    except BaseException:
        return  # the run meets it again, where it is said
    finally:
        tell(broken=SOLVERS.broken | PROBLEMS.broken)
