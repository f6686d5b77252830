"""`bilevelbench run papers`: the experiments of papers, tried claim by claim."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..core.errors import RequestError

if TYPE_CHECKING:
    from ..api.papers import Findings

NAME = "papers"  # in the place of a suite
TAKES = ("device", "jobs", "timeout", "patience", "here")


def run_papers(
    context: click.Context, command: str, paper: str | None, claims: tuple[str, ...], scale: str, out: Path,
    given: dict[str, Any],
) -> NoReturn:  # fmt: skip
    """Try claims, print a table and write the page; exits as `bilevelbench run` does."""
    from ..api.papers import FOLDER, TIMEOUT, prepared_papers

    said = {name for name in given if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    if wrong := sorted(said - {*TAKES}):
        raise RequestError(
            f"papers takes problems, solvers, seeds and budgets from its claims; leave out {option(wrong[0])}, or "
            "choose claims (--claim) and a --scale"
        )
    options = {name: given[name] for name in TAKES}
    options["timeout"] = options["timeout"] if "timeout" in said else TIMEOUT
    default = context.get_parameter_source("out") is click.core.ParameterSource.DEFAULT
    folder = Path(FOLDER) if default else out
    good = True
    with prepared_papers(paper, claims, scale, folder, command, **options) as trial:
        if (comparison := trial.comparison) is not None:
            click.echo(f"{len(comparison.jobs)} runs into {folder}, {len(comparison.todo)} of them to be made")
            try:
                comparison.make()
            except KeyboardInterrupt:
                click.echo(f"interrupted: {comparison.done} finished in {folder}; the same command resumes", err=True)
                sys.exit(130)
            good = comparison.good()
        found = trial.findings()
    told(found)
    click.echo(f"report: {found.report(folder / 'report')}")
    sys.exit(0 if good else 1)


def told(found: Findings) -> None:
    """Print findings."""
    from ..report.papers import lines

    for line in lines(found.each):
        click.echo(line)


def option(name: str) -> str:
    """How an option of `run` is written."""
    return {"problems": "-p", "solvers": "-s"}.get(name, f"--{name.replace('_', '-')}")
