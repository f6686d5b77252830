"""The command line, a file per group of commands.

Imports are inside the commands, so that ``--help`` and ``--version`` do not wait for torch.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from ..core.errors import PluginWarning, RequestError
from .compare import compare
from .data import data
from .figure import figure
from .folders import publish, status
from .hold import check, examine, gate
from .list import list_
from .reference import reference
from .report import report
from .run import run
from .tune import tune


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="bilevelbench", message="%(prog)s %(version)s")
def cli() -> None:
    """Compare bilevel solvers honestly: wall-clock, oracle calls, memory and convergence.

    `bilevelbench run` makes the default comparison and writes a report.
    """


COMMANDS = (
    run, tune, status, report, publish, compare, figure, reference, list_, check, examine, gate, data,
)  # fmt: skip

for command in COMMANDS:
    cli.add_command(command)


def _warn(message: Warning | str, category: type[Warning], *place: Any, **named: Any) -> None:
    """A warning that is meant for a person is one line; others say where they come from."""
    if issubclass(category, PluginWarning):
        click.echo(f"warning: {message}", err=True)
    else:
        click.echo(warnings.formatwarning(message, category, *place[:2]), err=True, nl=False)


def main() -> None:
    """The console command. Wrong requests are one sentence and exit code 2."""
    warnings.showwarning = _warn
    try:
        cli.main(standalone_mode=False)
    except RequestError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        click.echo(f"error: {RequestError(error.format_message())}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
