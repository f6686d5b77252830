"""`bilevelbench list`: what there is."""

from __future__ import annotations

import click


@click.command(name="list")
@click.argument("what", default="")
def list_(what: str) -> None:
    """List problems, solvers or suites; or the knobs of one solver or problem (`list bome`)."""
    from .. import catalogue

    click.echo(catalogue.show(what))
