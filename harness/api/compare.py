"""``bilevelbench.run``: problems with solvers, run as the command line runs them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import arguments
from .results import Results

if TYPE_CHECKING:
    from bilevelbench.run.job import Job, Sent
    from bilevelbench.run.suite import Suite


def run(
    problems: Any = None,
    solvers: Any = None,
    *,
    suite: str | None = None,
    seeds: int | str | Iterable[int] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    calls: int | None = None,
    out: str | os.PathLike[str] = "results",
    device: str | None = None,
    dtype: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    iterates: bool = False,
    keep: str | Iterable[str] = (),
    jobs: int = 1,
    timeout: float | None = 600.0,
    patience: float = 600.0,
    here: bool = False,
    in_process: bool = False,
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
    steps, seconds, calls
        Limits of a run: outer steps, seconds of the solver's own time, oracle calls. Default 1000 steps.
    out
        The folder of the results; it is made if it is not there.
    device, dtype, engine, threads
        ``cpu`` or ``cuda``; ``float32`` or ``float64``; see ``core.engines``; threads of each run (default 1).
    iterates
        Keep x and y at every look, up to 1000 variables.
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
        Make the runs in this process, untimed, and again whenever they are asked for: what they read is not known.
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
    options: dict[str, Any] = {
        "seeds": seeds, "steps": steps, "seconds": seconds, "calls": calls, "device": device, "dtype": dtype,
        "engine": engine, "threads": threads, "iterates": iterates or None, "in_process": in_process,
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
        **options,
    ) as comparison:
        comparison.make(arguments.flag("progress", progress))
    return comparison.results()


class Comparison:
    """Runs that were asked for: ``jobs``, of which ``todo`` have to be made, under ``suite``."""

    def __init__(self, suite: Suite, jobs: list[Job], out: Path, maker: Any) -> None:
        from bilevelbench.run.plan import unfinished

        self.suite, self.jobs, self.out, self.done = suite, jobs, out, 0
        self.todo, self._maker = unfinished(jobs), maker

    def make(self, progress: bool = True) -> None:
        """Make what has to be made. Interrupted, ``done`` says how many runs were finished; they are on disk."""
        from bilevelbench.progress import shown

        with shown(len(self.todo), progress) as bar:
            try:
                self._maker.make(self.out, self.todo, bar)
            finally:
                self.done = bar.done

    @property
    def stems(self) -> set[str]:
        """What the names of the files of these runs begin with."""
        return {job.key.stem for job in self.jobs}

    def good(self) -> bool:
        """Whether all runs ended well, or could not be made here through nobody's fault."""
        from bilevelbench.store.schema import GOOD

        records = [job.record() for job in self.jobs]
        return all(record.status in GOOD and record.fault != "problem" for record in records)

    def results(self) -> Results:
        """What there is of these runs."""
        return Results.load([self.out], self.stems)


@contextlib.contextmanager
def prepared(
    problems: Any, solvers: Any, *, suite: Any = None, out: Any = "results", command: str = "", jobs: Any = 1,
    timeout: Any = 600.0, patience: Any = 600.0, here: Any = False, keep: Any = (), **options: Any,
) -> Iterator[Comparison]:  # fmt: skip
    """A comparison that is ready to be made: everything that can be known to be wrong has been said.

    The options are those of ``run``, and ``batch_seeds``.
    """
    from bilevelbench.run.drive import make_folder
    from bilevelbench.run.plan import expand
    from bilevelbench.run.request import requested

    folder, options = arguments.path("out", out), arguments.options(options)
    limit, wait = arguments.positive("timeout", timeout), arguments.positive("patience", patience) or 600.0
    workers, own = arguments.whole("jobs", jobs) or 1, arguments.flag("here", here)
    suite = arguments.word("suite", suite, "smoke")
    inside = options["in_process"] or options["engine"] == "in_process"
    with _texts(problems, solvers, inside) as (asked, with_, sent), _makers(inside, wait, workers, sent) as maker:
        chosen = requested(suite, asked, with_, maker.solvers, **options)
        maker.device = chosen.blocks[0].device
        said = command or _said(suite, asked, with_, options)
        plan = expand(chosen, folder, said, limit, own, maker, maker.place, sent, arguments.kept(keep))
        make_folder(folder)
        yield Comparison(chosen, plan, folder, maker)


@contextlib.contextmanager
def _texts(problems: Any, solvers: Any, inside: bool) -> Iterator[tuple[list[str], list[str], Sent]]:
    """The texts for problems and solvers, and the definitions of what they name and this process alone knows."""
    asked, with_ = arguments.named("problems", problems), arguments.named("solvers", solvers)
    plain = all(isinstance(one, str) and not name for name, one in (*asked, *with_))
    if plain and not inside and "bilevelbench.core.registry" not in sys.modules:  # nothing can be defined here
        yield [one for _, one in asked], [one for _, one in with_], ()
        return
    from bilevelbench.run.send import Sender  # needs torch

    with Sender(inside) as sender:
        texts = [sender.problem(one, name) for name, one in asked], [sender.solver(one) for _, one in with_]
        yield *texts, sender.sent


@contextlib.contextmanager
def _makers(inside: bool, patience: float, workers: int, sent: Sent) -> Iterator[Any]:
    """Who looks names up, says what the machine is, and makes the runs: processes, or this one."""
    if inside:
        from bilevelbench.run.inside import Inside

        yield Inside()
        return
    from bilevelbench.run.child import processes
    from bilevelbench.run.drive import Driver
    from bilevelbench.run.elsewhere import Elsewhere

    class Processes(Elsewhere):
        def make(self, out: Path, todo: list[Job], bar: Any) -> None:
            told = bar.started, bar.finished, patience, bar.phase
            Driver(out, started, self.environment, workers, *told).run(todo)

    with processes() as started:
        yield Processes(started, patience, sent)


def _said(suite: str | None, problems: list[str], solvers: list[str], options: Mapping[str, Any]) -> str:
    """The call, for the record, as somebody would write it again."""
    parts = [repr(given) for given in (problems, solvers) if given]
    named = {"suite": suite, **options}
    return f"bilevelbench.run({', '.join([*parts, *(f'{k}={v!r}' for k, v in named.items() if v)])})"
