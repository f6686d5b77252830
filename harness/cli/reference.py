"""`bilevelbench reference`: the best Phi known of problems whose least value has no closed form."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..core.errors import RequestError
from .run import POSITIVE, WHOLE


@click.command()
@click.argument("problems", nargs=-1, metavar="PROBLEM...")
@click.option("--suite", metavar="NAME", help="The problems and seeds of a suite, but for those whose Phi* is known.")
@click.option("--seeds", metavar="SEEDS", help="0-4, or 0,2,5, or 3 (0, or the suite's own).")
@click.option("--budget", type=WHOLE, default=100_000, metavar="N", help="Gradients of g for each (100000).")
@click.option("--starts", type=WHOLE, default=5, metavar="N", help="Points to begin at (5).")
@click.option(
    "--patience", type=POSITIVE, default=600.0, metavar="S", help="Seconds without a word that end a search (600)."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), help="Folder of the results.")
def reference(
    problems: tuple[str, ...],
    suite: str | None,
    seeds: str | None,
    budget: int,
    starts: int,
    patience: float,
    out: Path,
) -> None:
    """Search for the best Phi of problems, an upper bound on the least, and keep it in OUT/references.

    By L-BFGS with exact hypergradients from several starts: a search of its own, never a run that is compared. Reports
    on OUT take it from there. What an earlier search has left is not searched for again, unless the budget or the
    starts are larger now. Exit code 2 where there is none to be had.
    """
    from ..api.reference import each

    good = True
    for search, found in each(list(problems), suite, seeds, budget, starts, out, patience, progress=True):
        if isinstance(found, RequestError):
            good = False
            click.echo(f"error: {found}", err=True)
        else:
            click.echo(f"{search.words}: Phi <= {found.phi:.10g} ({found.how})")
    sys.exit(0 if good else 2)
