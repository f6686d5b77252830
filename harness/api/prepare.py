"""What is to be run, looked up and expanded before anything is measured: what ``run`` and the command line stand on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError

from . import arguments

if TYPE_CHECKING:
    from bilevelbench.run.job import Job, Sent
    from bilevelbench.run.suite import Suite

    from .results import Results


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
        """Whether every run says something of its solver, be it that it diverges, or cannot be made here."""
        from bilevelbench.store.ends import ends
        from bilevelbench.store.files import finals
        from bilevelbench.store.schema import FINDINGS

        there = finals(self.out)
        records = (ends(job.published(there)) for job in self.jobs)
        return all(record.status in FINDINGS and record.fault != "problem" for record in records)

    def results(self, later: bool = False) -> Results:
        """What there is of these runs. ``later``: when something of them is first asked for, and not yet."""
        from .results import Results  # pandas, which a refused request does without

        return (Results if later else Results.load)([self.out], self.stems)


@contextlib.contextmanager
def prepared(
    problems: Any, solvers: Any, *, suite: Any = None, out: Any = "results", command: str = "", jobs: Any = 1,
    timeout: Any = 600.0, patience: Any = 600.0, here: Any = False, keep: Any = (), tune: Any = False, on: Any = None,
    slurm: Any = (), **options: Any,
) -> Iterator[Comparison]:  # fmt: skip
    """A comparison that is ready to be made: everything that can be known to be wrong has been said.

    The options are those of ``run``, and ``batch_seeds``; ``suite`` may be a ``Suite``.
    """
    from bilevelbench.run.drive import make_folder
    from bilevelbench.run.plan import expand
    from bilevelbench.run.request import requested
    from bilevelbench.run.suite import Suite

    folder, options = arguments.path("out", out), arguments.options(options)
    limit, wait = arguments.positive("timeout", timeout), arguments.positive("patience", patience) or 600.0
    workers, own = arguments.whole("jobs", jobs) or 1, arguments.flag("here", here)
    suite = suite if isinstance(suite, Suite) else arguments.word("suite", suite, "smoke")
    kept = arguments.kept(keep)
    inside = options["in_process"] or options["engine"] == "in_process"
    place = _place(on, slurm, own, inside)
    with (
        texts(problems, solvers, inside) as (asked, with_, sent),
        _makers(inside, wait, workers, sent, *place) as maker,
    ):
        chosen = requested(suite, asked, with_, maker.solvers, **options)
        if arguments.flag("tune", tune):
            make_folder(folder)
            chosen = _tuned(chosen, with_, folder / "tuning.scores", workers, sent, inside)
        maker.device = chosen.blocks[0].device
        said = command or _said(suite, asked, with_, options)
        plan = expand(chosen, folder, said, limit, own, maker, maker.place, sent, kept)
        make_folder(folder, () if own else {job.key.stem for job in plan})
        yield Comparison(chosen, plan, folder, maker)


@contextlib.contextmanager
def texts(problems: Any, solvers: Any, inside: bool) -> Iterator[tuple[list[str], list[str], Sent]]:
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


def _tuned(suite: Suite, solvers: list[str], kept: Path, workers: int, sent: Sent, inside: bool) -> Suite:
    """The suite with those solvers tuned that joined it without settings."""
    from bilevelbench.core.spec import parse
    from bilevelbench.run.grid import Plan
    from bilevelbench.run.scores import Scores
    from bilevelbench.run.tune import tuned, with_tuned

    from .tune import telling

    bare = [solver for solver in solvers if not parse(solver).arguments]
    if not bare or inside:
        why = "has no solver without settings to tune" if not bare else "makes its runs in processes of its own"
        raise RequestError(f"tune {why}; {'name one (-s)' if not bare else 'leave out in_process'}")

    def make(plan: Plan) -> Any:
        with Scores(kept, workers, sent) as scores:
            return tuned(plan, scores, telling(plan, True))

    return with_tuned(suite, bare, make)


@contextlib.contextmanager
def _makers(
    inside: bool, patience: float, workers: int, sent: Sent, on: str | None, slurm: Mapping[str, str]
) -> Iterator[Any]:
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
            if on is not None:
                from bilevelbench.run.on import choose

                choose.make(on, out, todo, bar, workers, slurm, patience)
                return
            told = bar.started, bar.finished, patience, bar.phase
            Driver(out, started, self.environment, workers, *told).run(todo)

    with processes() as started:
        yield Processes(started, patience, sent)


def _place(on: Any, slurm: Any, here: bool, inside: bool) -> tuple[str | None, dict[str, str]]:
    """Where the runs are to be made, and the options of Slurm."""
    place = arguments.word("on", on, "tcp://scheduler:8786")
    if place is None and not slurm:
        return None, {}
    from bilevelbench.run.on import choose
    from bilevelbench.run.on.slurm import options

    if isinstance(slurm, Mapping):
        given = [f"{name}={value}" for name, value in slurm.items()]
    else:
        given = [slurm] if isinstance(slurm, str) or not isinstance(slurm, Iterable) else list(slurm)
    if not all(isinstance(one, str) for one in given):
        raise arguments.wrong("slurm", slurm, "options of sbatch, such as {'partition': 'short'}")
    chosen = options(given)
    choose.check(place, chosen, here, inside)
    return place, chosen


def _said(suite: str | None, problems: list[str], solvers: list[str], options: Mapping[str, Any]) -> str:
    """The call, for the record, as somebody would write it again."""
    from bilevelbench.core.spec import spelled

    parts = [repr(given) for given in (problems, solvers) if given]
    seeds = options.get("seeds")  # of a hundred thousand runs each has this line
    named = {"suite": suite, **options, "seeds": seeds if seeds is None else spelled(seeds)}
    return f"bilevelbench.run({', '.join([*parts, *(f'{k}={v!r}' for k, v in named.items() if v)])})"
