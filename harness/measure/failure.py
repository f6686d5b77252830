"""What went wrong in a run, whose fault it was, and the row that says so."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bilevelbench.core.errors import Unsupported
from bilevelbench.store.files import FULL
from bilevelbench.store.schema import Row


class Foul(Exception):
    """A run that is not what it says."""

    fault = "solver"


class Impure(Foul):
    """A step changed the state that it was given."""


class Diverged(Exception):
    """The iterate, or Phi at it, is not finite."""

    fault = "solver"


class AtLook(Exception):
    """What went wrong when a look was judged, with the row so far."""

    def __init__(self, row: Row, error: BaseException) -> None:
        super().__init__(str(error))
        self.row, self.error = row, error


class Full(BaseException):
    """Nothing more can be written on this machine: no word on a run, which is made when it can, or elsewhere."""


@contextmanager
def room() -> Iterator[None]:
    """Whoever writes what a run needs for its record; ``Full`` where the disk is."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Full(error.filename or "") from error
        raise


def failed(last: Row, error: BaseException, fault: str = "solver") -> Row:
    """The row that ends a failed run: at the look where it failed, or at the last good one.

    ``fault``: whose code was running. An exception that knows better has a ``fault`` of its own. ``Full`` goes on.
    """
    if isinstance(error, Full):
        raise error
    row = Row(**{**vars(last), "metrics": {}, "unjudged": "", "x": None, "y": None, "memory": None})
    if isinstance(error, AtLook):
        row, error = error.row, error.error
    row.status, row.reason = status_of(error), _reason(error)
    row.fault = getattr(error, "fault", "" if row.status == "unsupported" else fault)
    if row.status == "error":
        row.traceback = "".join(traceback.format_exception(error))
    return row


def broken(error: BaseException, fault: str = "solver") -> Row:
    """The only row of a run that could not begin."""
    return failed(Row(0), error, fault)


def _reason(error: BaseException) -> str:
    words = str(error).strip().partition("\n")[0][:300]
    if isinstance(error, Exception):
        return words or type(error).__name__
    return f"raised {type(error).__name__}" + (f": {words}" if words else "")


def status_of(error: BaseException) -> str:
    """The final status that an exception stands for."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Unsupported):
        return "unsupported"
    words = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words:
        return "oom"
    return "error"
