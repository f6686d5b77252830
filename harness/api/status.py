"""``bilevelbench.status``: what is finished, under way and failed in a results folder."""

from __future__ import annotations

import os

from bilevelbench.core.errors import RequestError
from bilevelbench.store.files import Unreadable
from bilevelbench.store.status import Status
from bilevelbench.store.status import status as found

from . import arguments


def status(folder: str | os.PathLike[str] = "results") -> Status:
    """What there is in a results ``folder``, whoever is writing to it: ``str`` of it says it in a few lines.

    RequestError where there is no such folder, or where a plan or a record in it cannot be read.
    """
    from bilevelbench.run.on import plan

    path = arguments.path("folder", folder)
    if not path.is_dir():
        raise RequestError(f"there is no results folder {path}; name the folder that was given to `run` as out")
    try:
        return found(path, plan.texts(path) or None)
    except Unreadable as error:
        raise RequestError(str(error)) from None
