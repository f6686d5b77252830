"""`bilevelbench status` and `bilevelbench publish`: what is in a results folder, and for whoever has none."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("results"))
def status(folder: Path) -> None:
    """Say what is finished, under way and failed in a results folder, whoever is writing to it."""
    from ..api.status import status as found

    click.echo(str(found(folder)))


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("site"), help="Folder of the site.")
@click.option("--brief", is_flag=True, help="One figure for each problem.")
def publish(results: tuple[Path, ...], out: Path, brief: bool) -> None:
    """Write results as a static folder for any web host: reports, an index, records, Parquet, digests.

    Records of other machines that were published there before stay, and are in the reports. Records that are damaged or
    foreign are left out and named; the exit code is then 2.
    """
    from ..api.publish import published

    index, troubles = published(list(results) or Path("results"), out, brief)
    click.echo(f"site: {index}")
    for trouble in troubles:
        click.echo(f"error: {trouble}", err=True)
    sys.exit(2 if troubles else 0)
