"""`bilevelbench tune`: the knobs of solvers, chosen the same way for all."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ..core.errors import RequestError
from .run import POSITIVE, WHOLE


@click.command()
@click.argument("what", nargs=-1, metavar="[PROBLEM... | GRID.toml]")
@click.option("-s", "--solver", "solvers", multiple=True, metavar="SPEC", help="A solver; knobs that it sets are kept.")
@click.option("--configs", type=WHOLE, metavar="N", help="Configurations of each solver on each problem (24).")
@click.option("--calls", type=WHOLE, metavar="N", help="Oracle calls of each run (2000).")
@click.option("--rows", type=WHOLE, metavar="N", help="Or rows of data behind the calls.")
@click.option("--seeds", metavar="SEEDS", help="Instances to tune on (1000-1002).")
@click.option(
    "--scores", type=click.Path(path_type=Path), metavar="FILE",
    help="Where scores are kept, so that the command can be resumed (OUT with the ending .scores).",
)  # fmt: skip
@click.option("--jobs", type=WHOLE, default=1, metavar="N", help="Runs at a time.")
@click.option("--timeout", type=POSITIVE, metavar="S", help="Seconds after which a run is given up (120).")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("tuned.toml"), help="The suite to write.")
def tune(what: tuple[str, ...], solvers: tuple[str, ...], scores: Path | None, out: Path, **options: Any) -> None:
    """Choose the knobs of solvers (-s) on problems, or all that a grid file names, and write a suite.

    Every solver gets the same number of configurations and the same budget, on instances that the suite does not use.
    `bilevelbench run SUITE.toml` then makes the comparison.
    """
    from ..api.tune import tune as tuned

    grids = [name for name in what if name.endswith(".toml")]
    if grids and (len(what) > 1 or solvers or any(options[name] for name in ("configs", "calls", "rows", "seeds"))):
        raise RequestError(f"the grid {grids[0]} says what is tuned and how; give it alone, or problems with solvers")
    if not grids and not (what and solvers):
        raise RequestError("tune takes problems with solvers (-s), or a grid file")
    if out.is_dir() or not out.name:
        raise RequestError(f"--out {out} is a folder; name the file that is to be written, such as tuned.toml")
    kept = scores or out.with_suffix(".scores")
    command = "bilevelbench " + shlex.join(sys.argv[1:])
    asked = {"grid": grids[0]} if grids else {"problems": what, "solvers": solvers}
    try:
        found = tuned(**asked, scores=kept, out=out, command=command, **options)
    except KeyboardInterrupt:
        click.echo(f"interrupted: scores so far are in {kept}; the same command resumes", err=True)
        sys.exit(130)
    edges = sum(bool(one.edges) for one in found)
    cpu = sum(one.cpu_seconds for one in found)
    click.echo(f"{len(found)} choices in {out}, {edges} of them at the edge of what was tried; {cpu:.0f} CPU seconds")
