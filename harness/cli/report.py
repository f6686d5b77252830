"""`bilevelbench report`: the page of a folder of results, or of benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import RequestError

if TYPE_CHECKING:
    from ..api.results import Results


def written(results: Results, out: Path | None) -> list[str]:
    """Show the table of results, write their report, and say where it is. What could not be read or drawn."""
    from rich.console import Console

    from ..report.terminal import show

    console = Console(width=None if sys.stdout.isatty() else 120)
    report = results.report(out, lambda report: show(report, console))
    click.echo(f"report: {report.path}")
    return report.troubles


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the report (RESULTS/report).")
@click.option(
    "--benchmarks", type=click.Path(path_type=Path), metavar="FILE", help="Show a file of `pytest --benchmark-json`."
)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="An earlier such file, of the same machine."
)
def report(results: tuple[Path, ...], out: Path | None, benchmarks: Path | None, against: Path | None) -> None:
    """Write the report of one or more folders of results (`results` if none is named), and print its table; or, with
    --benchmarks, a page of these.

    Sub-folders, one for each machine, are read, too. Of several folders the report goes into the first.
    """
    if against and not benchmarks:
        raise RequestError("--against names an earlier file of benchmarks; give the later one with --benchmarks")
    if benchmarks:
        from ..report import benchmarks as pages

        click.echo(f"report: {pages.write(benchmarks, out or Path('reports/gate'), against)}")
        return
    from ..api.results import load

    troubles = written(load(*(results or [Path("results")])), out)
    for trouble in troubles:
        click.echo(f"error: {trouble}", err=True)
    sys.exit(2 if troubles else 0)
