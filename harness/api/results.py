"""What runs have shown: tables, leaders, verdict, figures, a report, files for elsewhere. It does without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError
from bilevelbench.store import frame

from . import arguments, exports, kept
from .columns import LOOKS, METRICS, RUNS, TARGETS, described, ordered

if TYPE_CHECKING:
    import pandas as pd

    from bilevelbench.report.page import Asked, Report
    from bilevelbench.report.paper import Printed
    from bilevelbench.stats.compare import Comparison


def load(*folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Results:
    """Read the results in one or more folders, and in the sub-folders of each.

    Results of several machines can be read together: no ratio has seconds of two of them.

    Raises
    ------
    RequestError
        Where a folder is not there, or none holds a result.
    """
    given = [one for several in folders for _, one in arguments.named("folders", several)]
    if folders and not given:
        raise arguments.wrong("folders", folders[0], "paths of results folders")
    paths = [arguments.path("folders", one) for one in given or ["results"]]
    for path in paths:
        if not path.is_dir():
            raise RequestError(f"there is no results folder {path}; name the folder that was given to `run` as out")
    return Results.load(paths)


class Results:
    """Runs that were made, as tables and as what follows from them.

    Attributes
    ----------
    runs : pandas.DataFrame
        A row for each run; ``bilevelbench.api.columns.RUNS`` says what each column is, and so does ``help``.
    looks : pandas.DataFrame
        A row for each look at a run, the first at its start. The columns of ``columns.LOOKS``, then the metrics, those
        of ``columns.METRICS`` and the problem's own. What a run lacks is NaN.
    targets : pandas.DataFrame
        A row for each run and target (``columns.TARGETS``): what it cost to get there first.
    troubles : list of str
        A sentence for each file that is foreign or damaged. What is whole of it is in the tables.
    notes : list of str
        A sentence for whatever is kept apart because it must not be in one ratio.
    """

    def __init__(self, folders: Sequence[Path], only: Collection[str] | None = None) -> None:
        """They are read when something of them is first asked for; see ``load``."""
        self._folders, self._only = list(folders), only

    @classmethod
    def load(cls, folders: Sequence[Path], only: Collection[str] | None = None) -> Results:
        """The runs in ``folders`` whose files begin with one of the stems ``only``, or all of them, read now."""
        results = cls(folders, only)
        _ = results._data
        return results

    @cached_property
    def _data(self) -> frame.Results:
        try:
            return frame.load(self._folders, self._only)
        except ValueError as error:
            raise RequestError(str(error)) from None

    @property
    def troubles(self) -> list[str]:
        """A sentence for each file that is foreign or damaged."""
        return self._data.troubles

    @property
    def notes(self) -> list[str]:
        """A sentence for whatever is kept apart."""
        return self._data.notes

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run."""
        return self._data.runs[list(RUNS)].copy()

    runs.__doc__ = described("A row for each run.", RUNS)

    @cached_property
    def looks(self) -> pd.DataFrame:
        """A row for each look at a run."""
        looks = self._data.looks
        return looks[ordered(looks.columns)].copy()

    looks.__doc__ = described("A row for each look at a run; the problem's own metrics come last.", LOOKS, METRICS)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """A row for each run and target."""
        from bilevelbench.stats.targets import of

        return of(self._data.runs, self._data.stored)[list(TARGETS)]

    targets.__doc__ = described("A row for each run and target.", TARGETS)

    def leaders(self, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
        """A row for each solver, best first: cost over the first's, share of targets held with its interval, memory,
        failures.

        The columns are those of ``bilevelbench.stats.compare.leaders``. ``weights``: of families, other than 1.
        """
        return self._compared(None, weights).leaders

    def duels(self, subject: str | None = None, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
        """A row for each rival of a solver: ratio of what both paid, with its interval, and how surely.

        The columns are those of ``stats.compare.duels``; ``subject`` and ``weights`` are as in ``verdict``.
        """
        from bilevelbench.report.verdict import subject_of
        from bilevelbench.stats.compare import duels

        found = self._compared(subject, weights)
        return duels(found, self.targets, subject_of(self._data.runs, subject))

    def verdict(self, subject: str | None = None, weights: Mapping[str, float] | None = None) -> str:
        """Who wins, if anybody does, and where the subject stands: sentences of which every clause has rows behind it.

        Parameters
        ----------
        subject
            The solver that it speaks about, as it is called in ``runs``; without it the one that a file of the user's
            defines, else BOME.
        weights
            Weights of families other than 1, by name; 0 leaves a family out.
        """
        from bilevelbench.report import verdict

        return str(verdict.of(self._data, self.targets, self._compared(subject, weights), subject))

    def _compared(self, subject: str | None, weights: Mapping[str, float] | None) -> Comparison:
        from bilevelbench.stats.compare import compare

        return compare(self._data.runs, self.targets, self._asked(subject, weights).weights)

    def _asked(self, subject: str | None, weights: Mapping[str, float] | None) -> Asked:
        from bilevelbench.report.page import Asked

        asked = Asked(arguments.word("subject", subject, "bome"), arguments.weights(weights))
        try:
            asked.check(self._data)
        except ValueError as error:
            raise RequestError(str(error)) from None
        return asked

    def figure(
        self, kind: str = "convergence", problem: str | Iterable[str] | None = None, *,
        solvers: str | Iterable[str] | None = None, y: str = "phi_gap", x: str | None = None, width: str = "jmlr",
    ) -> Printed:  # fmt: skip
        """A figure as it is to be printed: a matplotlib ``Figure``, which ``figure.write(path)`` saves with its fonts.

        Parameters
        ----------
        kind
            ``convergence`` of a metric; ``profile`` or ``ecdf`` of what targets cost, over the best solver's or as it
            is; ``memory``; ``sensitivity`` to the step, from the scores of tuning; ``trajectory`` over level sets, for
            a problem of two drawn coordinates whose runs kept their ``iterates``.
        problem
            One or several, as in ``runs`` or by the name before the bracket; it may be left out where there is one.
        solvers
            Those that are shown, all by default, as in ``runs`` or by the name before the bracket.
        y
            The metric, a column of ``looks``.
        x
            ``calls``, ``passes``, ``grads``, ``rows``, ``steps`` or ``seconds``; without it convergence on one problem
            is drawn against calls and against seconds, where there is room for both.
        width
            ``neurips``, ``icml`` (a column), ``jmlr``, ``siam``, or points of TeX such as ``252pt``. Type has at least
            7 points at that width.
        """
        from . import pictures

        want = pictures.Wanted(kind, problem, solvers, y, x, width)
        return pictures.asked(self._data, self.targets, lambda: self._compared(None, None), want)

    def point(self, run: str) -> dict[str, Any]:
        """The last x, shape (n_x,), and y, shape (n_y,), of a run, as NumPy arrays: what it was told to ``keep``.

        ``run``: as it stands in ``runs``. RequestError where it kept none.
        """
        return kept.point(self._data.records, run)

    def report(
        self, out: str | os.PathLike[str] | None = None, tell: Callable[[Report], None] = lambda report: None, *,
        subject: str | None = None, weights: Mapping[str, float] | None = None, brief: bool = False,
    ) -> Report:  # fmt: skip
        """Write the report: ``path``, one page that works offline, with figures as PDF and data as CSV beside it.

        Parameters
        ----------
        out
            The folder; ``report`` in the first folder of the results unless one is named.
        tell
            Called with the report when its tables are there, before any figure is drawn.
        subject, weights
            As for ``verdict``.
        brief
            One figure for each problem, of its first metric: a page to publish.
        """
        from bilevelbench.report import page

        folder = self._folders[0] / "report" if out is None else arguments.path("out", out)
        asked = replace(self._asked(subject, weights), brief=brief)
        try:
            return page.show(self._data, self._folders, folder, tell, asked)
        except OSError as error:
            raise exports.unwritten(folder, error) from None

    def to_csv(self, out: str | os.PathLike[str]) -> list[Path]:
        """Write ``runs.csv``, ``looks.csv``, ``targets.csv`` and ``leaders.csv`` into the folder ``out``."""
        return exports.csv(exports.tables(self, self._data.stored), arguments.path("out", out))

    def to_parquet(self, out: str | os.PathLike[str]) -> list[Path]:
        """The same four tables into ``out`` as Parquet. It needs pyarrow: ``pip install 'bilevelbench[parquet]'``."""
        return exports.parquet(exports.tables(self, self._data.stored), arguments.path("out", out))

    def to_latex(self) -> str:
        """The leader table for a paper, with booktabs' rules: in bold what leads surely, ties marked."""
        return exports.latex(self._compared(None, None))

    def __repr__(self) -> str:
        try:
            runs = self._data.runs
        except RequestError as nothing:  # of a plan, so far
            return f"<Results: {nothing}>"
        counts = {name: runs[name].nunique() for name in ("problem", "solver", "seed")}
        words = ", ".join(f"{n} {name}{'s' if n != 1 else ''}" for name, n in {"run": len(runs), **counts}.items())
        statuses = ", ".join(f"{n} {status}" for status, n in runs["status"].value_counts().items())
        return f"<Results: {words}; {statuses}>"

    def _repr_html_(self) -> str:
        import html

        try:
            leaders = self.leaders()._repr_html_()  # type: ignore[operator]
        except RequestError:
            leaders = ""
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{leaders}"
