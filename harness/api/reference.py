"""``bilevelbench.reference``: the best Phi that a search of its own finds, where no closed form says the least."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError

from . import arguments
from .prepare import texts

if TYPE_CHECKING:
    from pathlib import Path

    from bilevelbench.core.problem import Problem
    from bilevelbench.run.reference import Search
    from bilevelbench.store.references import Reference

    ProblemLike = str | Problem | Callable[..., Problem]

BUDGET, STARTS, PATIENCE = 100_000, 5, 600.0


def reference(
    problems: ProblemLike | Iterable[ProblemLike] | Mapping[str, ProblemLike] | None = None,
    *,
    suite: str | None = None,
    seeds: int | str | Iterable[int] | None = None,
    budget: int = BUDGET,
    starts: int = STARTS,
    out: str | os.PathLike[str] = "results",
    patience: float = PATIENCE,
    progress: bool = True,
) -> list[Reference]:
    """Search for the best Phi of problems whose least value is not known, and keep it below a results folder.

    It is an upper bound on the least Phi, by an exact method from several starts, and has nothing of the runs that are
    compared with it. Reports and ``Results.runs`` take it from there. What an earlier search has left in ``out`` is not
    searched for again, unless budget or starts are larger now, or the problem's file has changed.

    Parameters
    ----------
    problems
        As in ``run``: texts, functions that take a ``Draw``, objects of ``Problem``, or a dictionary that names them.
    suite
        A suite by name, or by the path of a .toml file: its problems with its seeds, but for those whose Phi* is known.
    seeds
        Whole numbers from 0 on, or a text such as ``"0-4"``. Default 0, or the suite's.
    budget
        Gradients of g that a search may ask; an answer of a closed form of y* counts as one.
    starts
        The problem's own start, and points around it.
    out
        The folder of the results; references are in ``out/references``, a file each.
    patience
        Seconds after which a search that says nothing is ended.
    progress
        Show how far it is.

    Returns
    -------
    list of Reference
        One for each problem and seed.

    Raises
    ------
    RequestError
        For what cannot be done, in one sentence: Phi* is known, the budget does not do for y* at the start, Phi cannot
        be judged. References that were found before are kept.
    """
    made = []
    for _, found in each(problems, suite, seeds, budget, starts, out, patience, arguments.flag("progress", progress)):
        if isinstance(found, RequestError):
            raise found
        made.append(found)
    return made


def each(
    problems: Any, suite: Any, seeds: Any, budget: Any, starts: Any, out: Any, patience: Any, progress: bool
) -> Iterator[tuple[Search, Reference | RequestError]]:
    """Each search with what came of it, as it ends; of a suite without those that need none."""
    from bilevelbench.progress import shown
    from bilevelbench.run.child import processes
    from bilevelbench.run.elsewhere import Elsewhere
    from bilevelbench.run.reference import Needless

    folder, wait = arguments.path("out", out), arguments.positive("patience", patience) or PATIENCE
    most, begins = arguments.whole("budget", budget) or BUDGET, arguments.whole("starts", starts) or STARTS
    chosen = arguments.word("suite", suite, "learning")
    with texts(problems, None, False) as (asked, _, sent), processes() as started:
        searches = _searches(asked, chosen, arguments.seeds(seeds), begins, most, Elsewhere(started, wait, sent), sent)
        _prepare(folder)
        with shown(len(searches), progress) as bar:
            for search in searches:
                bar.started(search)
                found: Reference | RequestError | None
                try:
                    found = _made(search, folder, started, wait, bar)
                except Needless as error:
                    found = None if chosen else error
                except RequestError as error:
                    found = error
                bar.finished(search, "refused" if isinstance(found, RequestError) else "done")
                if found is not None:
                    yield search, found


def _searches(
    asked: list[str], suite: str | None, seeds: tuple[int, ...] | None, starts: int, budget: int, ask: Any, sent: Any
) -> list[Search]:
    """What is to be searched for, each instance once."""
    from bilevelbench.run.reference import Search
    from bilevelbench.run.suite import load_suite

    if suite and asked:
        raise RequestError(f"both the suite {suite!r} and problems were given; give one of them")
    if not suite and not asked:
        raise RequestError("no problem was given; name one, such as 'few_shot', or a suite")
    blocks = load_suite(suite).blocks if suite else ()
    pairs = [(text, block.seeds) for block in blocks for text in block.problems] or [(text, (0,)) for text in asked]
    found: dict[tuple[str, int], Search] = {}
    for text, own in pairs:
        named = ask("problem", text, (seeds or own)[0])
        for seed in seeds or own:
            found.setdefault((named.spec, seed), Search(text, seed, named, starts, budget, sent))
    return list(found.values())


def _prepare(folder: Path) -> None:
    from bilevelbench.run.drive import make_folder

    make_folder(folder)


def _made(search: Search, folder: Path, started: Any, patience: float, bar: Any) -> Reference:
    from bilevelbench.store import references

    if (kept := search.kept(folder)) is not None:
        return kept
    found = search.make(
        started, patience, lambda spent, least: bar.said(search, f"{spent:.0f} gradients of g, Phi <= {least:.6g}")
    )
    try:
        references.write(folder, found)
    except OSError as error:
        raise RequestError(
            f"{folder}/{references.FOLDER} cannot be written ({error.strerror}); name another folder"
        ) from None
    return found
