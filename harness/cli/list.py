"""`bilevelbench list`: what there is."""

from __future__ import annotations

import click


@click.command(name="list")
@click.argument("what", default="")
@click.option("--for", "problem", metavar="PROBLEM", help="Solvers that can take a problem; who leads on its kind.")
def list_(what: str, problem: str | None) -> None:
    """List problems, solvers, suites or claims of papers; or the knobs of one solver or problem (`list bome`); or, with
    --for, which solvers take a problem of yours and how they do on problems of its kind (`list --for my_problem.py`).
    """
    from .. import catalogue

    click.echo(catalogue.suited(problem) if problem else catalogue.show(what))
