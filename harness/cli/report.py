"""`bilevelbench report`: the page of a folder of results, or of benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import RequestError

if TYPE_CHECKING:
    from ..api.results import Results


def written(
    results: Results, out: Path | None, subject: str | None = None, weights: dict[str, float] | None = None,
    brief: bool = False,
) -> list[str]:  # fmt: skip
    """Show the table of results, write their report, and say where it is. What could not be read or drawn."""
    from rich.console import Console

    from ..report.terminal import show

    console = Console(width=None if sys.stdout.isatty() else 120)
    report = results.report(out, lambda report: show(report, console), subject=subject, weights=weights, brief=brief)
    click.echo(f"report: {report.path}")
    return report.troubles


def _weight(text: str) -> tuple[str, float]:
    family, _, number = text.partition("=")
    try:
        return family, float(number)
    except ValueError:
        raise RequestError(f"--weight {text!r} is not valid; it is FAMILY=NUMBER, such as bome_toys=0.5") from None


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the report (RESULTS/report).")
@click.option(
    "--benchmarks", type=click.Path(path_type=Path), metavar="FILE", help="Show a file of `pytest --benchmark-json`."
)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="An earlier such file, of the same machine."
)
@click.option(
    "--history", is_flag=True, help="Figures over commits, of asv, pytest-benchmark, gates and runs, in RESULTS."
)
@click.option("--subject", metavar="SOLVER", help="The solver that the verdict speaks about (your own, else BOME).")
@click.option(
    "--weight", multiple=True, metavar="FAMILY=W", help="Weight of a family of problems other than 1; 0 leaves it out."
)
@click.option("--brief", is_flag=True, help="One figure for each problem: a page to publish.")
@click.option("--papers", is_flag=True, help="The page of the claims of papers, of what `run papers` has made.")
def report(
    results: tuple[Path, ...], out: Path | None, benchmarks: Path | None, against: Path | None, history: bool,
    subject: str | None, weight: tuple[str, ...], brief: bool, papers: bool,
) -> None:  # fmt: skip
    """Write the report of one or more folders of results (`results` if none is named), and print its table; or, with
    --benchmarks, a page of these; or, with --history, a page for each solver of how its figures went over commits.

    Sub-folders, one for each machine, are read, too. Of several folders the report goes into the first.
    """
    if against and not benchmarks:
        raise RequestError("--against names an earlier file of benchmarks; give the later one with --benchmarks")
    if papers:
        from ..api.papers import FOLDER, load_papers
        from .papers import told

        others = {"benchmarks": benchmarks, "subject": subject, "weight": weight, "brief": brief}
        if wrong := [name for name, value in others.items() if value]:
            raise RequestError(f"--papers writes the page of claims; leave out --{wrong[0]}")
        folders = results or (Path(FOLDER),)
        told(found := load_papers(*folders))
        click.echo(f"report: {found.report(out or folders[0] / 'report')}")
        return
    if benchmarks:
        from ..report import benchmarks as pages

        click.echo(f"report: {pages.write(benchmarks, out or Path('reports/gate'), against)}")
        return
    if history:
        from ..api.exports import unwritten
        from ..report import history as past

        place = out or Path("reports/history")
        try:
            click.echo(f"report: {past.write(list(results) or [Path('reports/asv/results')], place)}")
        except OSError as error:
            raise unwritten(place, error) from None
        return
    from ..api.results import load

    weights = dict(map(_weight, weight))
    troubles = written(load(*(results or [Path("results")])), out, subject, weights, brief)
    for trouble in troubles:
        click.echo(f"error: {trouble}", err=True)
    sys.exit(2 if troubles else 0)
