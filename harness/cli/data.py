"""`bilevelbench data`: the files behind the problems."""

from __future__ import annotations

import sys

import click


@click.group()
def data() -> None:
    """The data files behind the problems: where they are, how to get them, whether they are whole."""


@data.command(name="list")
def data_list() -> None:
    """List the sources with their files, sizes, licences, and where each file was found."""
    from ..data.find import listing

    click.echo("\n".join(listing()))


@data.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a source (such as mnist) or one file into the user cache, by checksum, unless it is at hand."""
    from ..core.errors import Unsupported
    from ..data import find

    good = True
    for file in find.chosen(name):
        try:
            click.echo(f"{file.name}: {find.find(file)}")
        except Unsupported as reason:
            good = False
            click.echo(f"error: {reason}", err=True)
    sys.exit(0 if good else 1)


@data.command()
def verify() -> None:
    """Read every file and hold it to its checksum or content. Exit code 1 when one is missing or bad."""
    from ..data.find import verify as verified

    whole = True
    for good, line in verified():
        whole &= good
        click.echo(line)
    sys.exit(0 if whole else 1)
