"""``bilevelbench.join``: work on the plan of a results folder, as one of any number of processes, on any scheduler."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from . import arguments


def join(folder: str | os.PathLike[str], *, jobs: int = 1, patience: float = 600.0, progress: bool = True) -> int:
    """Make the runs of a folder's plans that nobody has made or is making, until all are made.

    Parameters
    ----------
    folder
        A results folder into which ``run(..., on="folder")`` or ``on="slurm"`` has put a plan.
    jobs
        Runs at a time.
    patience
        Seconds that each phase of a run which is not the solver's may take.
    progress
        Show a bar, or lines where nobody watches.

    Returns
    -------
    int
        How many runs have ended while this process was there, whoever made them.

    Raises
    ------
    RequestError
        Where there is no plan, or where the code of this machine is not that of the plan.
    """
    from bilevelbench.progress import shown
    from bilevelbench.run.child import processes
    from bilevelbench.run.drive import Driver, make_folder
    from bilevelbench.run.on.plan import joined
    from bilevelbench.run.on.text import Reader
    from bilevelbench.run.plan import unfinished

    place: Path = arguments.path("folder", folder)
    workers, wait = arguments.whole("jobs", jobs) or 1, arguments.positive("patience", patience) or 600.0
    with processes() as started, tempfile.TemporaryDirectory(prefix="bilevelbench-") as definitions:
        reader = Reader(started, Path(definitions), wait)
        todo: list[Any] = unfinished(joined(place, reader.job))
        make_folder(place)
        begin = random.randrange(len(todo)) if todo else 0  # so that those who join do not all want the same run
        with shown(len(todo), arguments.flag("progress", progress)) as bar:
            told = bar.started, bar.finished, wait, bar.phase
            Driver(place, started, reader.machine.environment, workers, *told).run(todo[begin:] + todo[:begin])
            return bar.done
