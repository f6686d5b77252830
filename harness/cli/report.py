"""`bilevelbench report`: the page of a folder of results, or of benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import RequestError

if TYPE_CHECKING:
    from ..report.page import Report


def written(results: Path | Sequence[Path], out: Path, only: Collection[str] | None = None) -> Report:
    """Show the table of results, write their report, and say where it is. ``only``: stems of the runs to use."""
    from rich.console import Console

    from ..report.page import write
    from ..report.terminal import show

    def tell(report: Report) -> None:
        show(report, Console(width=None if sys.stdout.isatty() else 120))

    try:
        report = write(results, out, only, tell)
    except ValueError as error:
        raise RequestError(str(error)) from None
    except OSError as error:
        raise RequestError(f"-o {out} cannot be written ({error.strerror}); name a folder that you can write") from None
    click.echo(f"report: {report.path}")
    return report


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
    folders = results or (Path("results"),)
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(
                f"there is no results folder {folder}; name the folder given as --out to `bilevelbench run`"
            )
    made = written(folders, out or folders[0] / "report")
    for trouble in made.troubles:
        click.echo(f"error: {trouble}", err=True)
    sys.exit(2 if made.troubles else 0)
