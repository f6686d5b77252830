"""`bilevelbench compare`: two versions of solvers, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .run import POSITIVE, WHOLE


@click.command()
@click.argument("base")
@click.argument("head", default=".")
@click.option("-s", "--solver", "solvers", multiple=True, metavar="SPEC", help="A solver, or a file in both versions.")
@click.option("-p", "--problem", "problems", multiple=True, metavar="SPEC", help="A problem (quadratic).")
@click.option("--device", default="cpu", metavar="cpu|cuda")
@click.option("--threads", type=WHOLE, default=1, metavar="N", help="Threads of each side (1).")
@click.option(
    "--seconds", type=POSITIVE, default=180.0, metavar="S", help="Limit for each solver on each problem (180)."
)
@click.option("--bisect", is_flag=True, help="Name the first commit after BASE since which the worst of it is there.")
@click.option("--same-environment", is_flag=True, help="Measure revisions with the packages that are here.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table for a pull request.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it as a page.")
def compare(
    base: str, head: str, solvers: tuple[str, ...], problems: tuple[str, ...], device: str, threads: int,
    seconds: float, bisect: bool, same_environment: bool, markdown: Path | None, html: Path | None,
) -> None:  # fmt: skip
    """Say whether HEAD is slower than BASE, takes another path, or costs more, and whether that is real.

    BASE and HEAD are git revisions, folders with a checkout, wheels, environments, or files that define a solver; HEAD
    is the working folder if left out. Both run side by side, by turns, until it is known. Exit code 1 when HEAD is
    worse anywhere.
    """
    from rich.console import Console

    from ..api.versions import compare as compared
    from ..report.compare import show

    found = compared(
        base, head, solvers or None, problems or None, device=device, threads=threads, seconds=seconds, bisect=bisect,
        same_environment=same_environment,
    )  # fmt: skip
    show(found, Console(width=None if sys.stdout.isatty() else 160))
    if markdown is not None:
        markdown.write_text(found.markdown(), encoding="utf-8")
    if html is not None:
        click.echo(f"page: {found.report(html)}")
    sys.exit(1 if found.worse else 0)
