"""``bilevelbench.run``: problems with solvers, run as the command line runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import arguments
from .prepare import prepared

if TYPE_CHECKING:
    from bilevelbench.core.problem import Problem

    from .results import Results

    ProblemLike = str | Problem | Callable[..., Problem]


def run(
    problems: ProblemLike | Iterable[ProblemLike] | Mapping[str, ProblemLike] | None = None,
    solvers: str | type | Iterable[Any] | Any = None,
    *,
    suite: str | None = None,
    seeds: int | str | Iterable[int] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    calls: int | None = None,
    rows: int | None = None,
    out: str | os.PathLike[str] = "results",
    device: str | None = None,
    dtype: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    iterates: bool = False,
    judge: str | None = None,
    keep: str | Iterable[str] = (),
    jobs: int = 1,
    timeout: float | None = 600.0,
    patience: float = 600.0,
    here: bool = False,
    in_process: bool = False,
    tune: bool = False,
    on: str | None = None,
    slurm: str | Mapping[str, str] | Iterable[str] = (),
    progress: bool = True,
) -> Results:
    """Run every solver on every problem for every seed, and answer what was measured.

    Each run has a process of its own, and its record is a file in ``out``. What is finished there is not made again.

    Parameters
    ----------
    problems
        One problem or several: texts (``"quadratic(kappa=100)"``, ``"my_file.py"``), functions that take a ``Draw`` and
        answer a ``Problem`` (``functools.partial`` sets their knobs), or objects of ``Problem``, which every seed
        shares. A dictionary gives names. Without any, those of the suite.
    solvers
        One solver or several: texts (``"bome(lr=0.01)"``, ``"my_file.py"``), or classes under ``@solver`` and their
        objects. With a suite they join its own; without any, all there are.
    suite
        A suite by name, or by the path of a .toml file; ``default`` where no problems are given.
    seeds
        Whole numbers from 0 on, or a text such as ``"0-4"``: they make data, split, noise and start. Default 0.
    steps, seconds, calls, rows
        Limits of a run: outer steps, seconds of the solver's own time, oracle calls, rows of data behind these calls.
        Default 1000 steps.
    out
        The folder of the results; it is made if it is not there.
    device, dtype, engine, threads
        ``cpu`` or ``cuda``; ``float32`` or ``float64``; see ``core.engines``; threads of each run (default 1).
    iterates
        Keep x and y at every look, up to 1000 variables.
    judge
        ``"figures"``: by the problem's own figures alone. Phi, which takes a re-solve at every look, is not judged.
    keep
        ``"x,y"``, or one of them: what is stored of the last point of each run that is done, of any size, beside its
        record (``Results.point``). ``solve(..., start=results.point(run))`` goes on from there.
    jobs
        Runs at a time. More than one spoils the seconds.
    timeout, patience
        Seconds that the solver's own phases may take together, and that each other phase of a run may take.
    here
        Results of another machine do not stand in for those of this one.
    in_process
        Make the runs in this process, one after the other: untimed, under no time limit, and anew whenever they are
        asked for, since what they read is not known.
    tune
        Tune the solvers that are given without settings first, on every problem by itself, as the suite's own were
        (see ``tune``); scores are kept in ``out``.
    on
        Where the runs are made: None for processes of this machine; the address of a Dask scheduler
        (``"tcp://host:8786"``), or ``"dask"`` for a local cluster of ``jobs`` workers; ``"slurm"`` for an array of
        ``jobs`` workers that share ``out``; ``"folder"`` for a plan in ``out`` that any process can ``join``: its
        results are read when something of them is first asked for.
    slurm
        Options of sbatch, such as ``{"partition": "short", "time": "2:00:00"}``.
    progress
        Show a bar (in a notebook, too), or lines where nobody watches.

    Returns
    -------
    Results
        Those of the runs that were asked for, whatever else is in ``out``.

    Raises
    ------
    RequestError
        For anything that cannot be done, before anything is measured: one sentence that names the argument.

    Notes
    -----
    What is defined in a notebook or in ``__main__`` is sent to the process of the run by cloudpickle, with all that it
    uses. A digest of it stands in the run's key: an edited definition is another run. Outside of Linux a script that
    calls this has to do so under ``if __name__ == "__main__"``, for its process is started by importing the script.
    """
    for name, value in (("problems", problems), ("solvers", solvers)):
        arguments.some(name, value)
    options: dict[str, Any] = {
        "seeds": seeds, "steps": steps, "seconds": seconds, "calls": calls, "rows": rows, "device": device,
        "dtype": dtype, "engine": engine, "threads": threads, "iterates": iterates or None, "judge": judge,
        "in_process": in_process,
    }  # fmt: skip
    with prepared(
        problems,
        solvers,
        suite=suite,
        out=out,
        jobs=jobs,
        timeout=timeout,
        patience=patience,
        here=here,
        keep=keep,
        tune=tune,
        on=on,
        slurm=slurm,
        **options,
    ) as comparison:
        comparison.make(arguments.flag("progress", progress))
    return comparison.results(later=on == "folder")
