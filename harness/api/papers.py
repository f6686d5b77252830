"""``bilevelbench.claims``, ``run_papers`` and ``load_papers``: the experiments of papers, tried claim by claim."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import suggest
from bilevelbench.stats.papers import SCALES, Claim
from bilevelbench.stats.papers import claims as known

from . import arguments

if TYPE_CHECKING:
    import pandas as pd

    from bilevelbench.stats.findings import Finding
    from bilevelbench.store import frame

    from .prepare import Comparison

SUITE = "papers"  # what the records say that they are of
FOLDER = "results/papers"
TIMEOUT = 14_400.0  # seconds of a solver in a run: published protocols are long


def claims(paper: str | None = None) -> list[Claim]:
    """The experiments of the papers that come with the package, or of one ``paper``, as data.

    Raises
    ------
    RequestError
        Where there is no such paper.
    """
    return known(arguments.word("paper", paper, "bome"))


class Findings:
    """What runs say of claims; made by ``run_papers`` and ``load_papers``.

    Attributes
    ----------
    each : list of Finding
        One for each claim: its cells with the figure of every seed, interval and ruling; the verdict; CPU seconds.
    """

    def __init__(self, each: Sequence[Finding], data: frame.Results | None) -> None:
        self.each, self._data = list(each), data

    @property
    def table(self) -> pd.DataFrame:
        """A row for each claim: paper, claim, where, scale, verdict, why, cpu_minutes, runs."""
        import pandas as pd

        from bilevelbench.report.papers import claim_row

        return pd.DataFrame([claim_row(one) for one in self.each])

    @property
    def cells(self) -> pd.DataFrame:
        """A row for each published figure: published value and spread, measured mean with its 95 % interval, ruling."""
        import pandas as pd

        from bilevelbench.report.papers import cell_rows

        return pd.DataFrame([row for one in self.each for row in cell_rows(one)])

    def report(self, out: str | os.PathLike[str]) -> Path:
        """Write the page of these claims, with figures as PDF and data as CSV beside it. Its path."""
        from bilevelbench.report.papers_page import write

        from . import exports

        folder = arguments.path("out", out)
        try:
            return write(self.each, self._data, folder)
        except OSError as error:
            raise exports.unwritten(folder, error) from None

    def __repr__(self) -> str:
        return self.table.to_string() if self.each else "no claims"


def load_papers(
    *folders: str | os.PathLike[str], paper: str | None = None, claims: Iterable[str] = (), scale: str | None = None
) -> Findings:
    """What the results in folders say of claims, each at the published scale where that has been run, or at ``scale``.

    Parameters
    ----------
    folders
        Those given to ``run_papers`` as ``out``.
    paper, claims
        As in ``run_papers``.
    scale
        ``published`` or ``quick``.

    Raises
    ------
    RequestError
        For a folder, paper, claim or scale that there is not.
    """
    from bilevelbench.stats.findings import best, findings
    from bilevelbench.store import frame

    paths = [arguments.path("folders", one) for one in folders or [FOLDER]]
    for path in paths:
        if not path.is_dir():
            raise RequestError(f"there is no results folder {path}; make it with `bilevelbench run papers`")
    chosen = _chosen(paper, claims)
    try:
        data = frame.load(paths)
    except ValueError:
        data = None
    return Findings(best(data, chosen) if scale is None else findings(data, chosen, _scale(scale)), data)


def run_papers(
    paper: str | None = None, claims: Iterable[str] = (), *, scale: str = "quick",
    out: str | os.PathLike[str] = FOLDER, device: str | None = None, jobs: int = 1, timeout: float | None = TIMEOUT,
    patience: float = 600.0, here: bool = False, progress: bool = True,
) -> Findings:  # fmt: skip
    """Try the claims of papers, and answer for each whether it is reproduced.

    The runs are made, kept and resumed as those of ``run``.

    Parameters
    ----------
    paper, claims
        One paper by its short name; some claims by their ids (``"B1"``). All without.
    scale
        ``published``: the paper's own protocol. ``quick``: fewer seeds and steps; what agrees there only does so far.
    out, device, jobs, timeout, patience, here, progress
        As in ``run``.

    Returns
    -------
    Findings
        One for each claim that was asked for. Claims that are out of reach, for want of data or hardware, are among
        them, with the reason.

    Raises
    ------
    RequestError
        For an unknown paper, claim or scale; for named claims that have not got the scale; and where all claims that
        were named are out of reach.
    """
    ids = [name for _, name in arguments.named("claims", claims)]
    with prepared_papers(
        paper, ids, scale, out, "", device=device, jobs=jobs, timeout=timeout, patience=patience, here=here
    ) as trial:
        if trial.comparison is not None:
            trial.comparison.make(arguments.flag("progress", progress))
        return trial.findings()


class Trial:
    """Claims that are ready to be tried: ``comparison`` is what has to be run, None where nothing has."""

    def __init__(self, chosen: list[Claim], scale: str, named: bool, folder: Path, comparison: Comparison | None):
        self.chosen, self.scale, self.comparison = chosen, scale, comparison
        self._named, self._folder = named, folder

    def findings(self) -> Findings:
        """What there is of them; ``RequestError`` where all were named and none can be tried here."""
        from bilevelbench.stats.findings import findings
        from bilevelbench.stats.rulings import OUT
        from bilevelbench.store import frame

        stems = self.comparison.stems if self.comparison else None
        data = frame.load([self._folder], stems) if stems else None
        found = findings(data, self.chosen, self.scale)
        if self._named and all(one.verdict == OUT for one in found):
            raise RequestError(_out_of_reach([one.claim for one in found], found[0].why))
        return Findings(found, data)


@contextmanager
def prepared_papers(
    paper: Any, ids: Sequence[str], scale: Any, out: Any, command: str, **options: Any
) -> Iterator[Trial]:
    """Claims with their runs planned: everything that can be known to be wrong has been said."""
    from bilevelbench.run.suite import Suite, block_of

    from .prepare import prepared

    chosen, size = _chosen(paper, ids), _scale(scale)
    for claim in chosen if ids else ():
        if claim.runs and size not in claim.scales:
            raise RequestError(f"claim {claim.id} has no {size} scale; it has {' and '.join(claim.scales)}")
    if ids and not any(claim.runs for claim in chosen):
        raise RequestError(_out_of_reach(chosen, chosen[0].reach))
    folder = arguments.path("out", out)
    blocks = tuple(block_of(block, f"claim {claim.id}") for claim in chosen for block in claim.blocks(size))
    if not blocks:
        yield Trial(chosen, size, bool(ids), folder, None)
        return
    suite = Suite(SUITE, f"claims of {paper or 'the papers'}, {size}", blocks)
    said = command or f"bilevelbench.run_papers({paper!r}, {list(ids)!r}, scale={size!r})"
    none: dict[str, Any] = dict.fromkeys(("in_process", "engine"))
    with prepared(None, None, suite=suite, out=folder, command=said, **none | options) as comparison:
        yield Trial(chosen, size, bool(ids), folder, comparison)


def _chosen(paper: Any, ids: Iterable[str]) -> list[Claim]:
    named = [name for _, name in arguments.named("claims", ids)]
    return known(arguments.word("paper", paper, "bome"), [str(name) for name in named])


def _scale(scale: Any) -> str:
    if scale not in SCALES:
        raise RequestError(f"there is no scale {scale!r}; {suggest(str(scale), SCALES)}")
    return str(scale)


def _out_of_reach(claims: Sequence[Claim], why: str) -> str:
    """One sentence, with the nearest claims of the same paper that can be tried."""
    names = " and ".join(claim.id for claim in claims)
    others = [claim.id for claim in known(claims[0].paper) if claim.runs and not claim.reach]
    near = next((c.id for c in known(claims[0].paper) if c.stands_for in {claim.id for claim in claims}), "")
    instead = f"{near} stands in for it" if near else f"those that can be tried: {', '.join(others)}"
    verb = "are" if len(claims) > 1 else "is"
    return f"claim {names} {verb} out of reach: {why}; {instead}".replace(".;", ";")
