"""`bilevelbench run`: make the runs of a suite and write their report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import RequestError
from . import papers
from .report import written

if TYPE_CHECKING:
    from ..api.prepare import Comparison


class Number(click.ParamType):
    """A number of a kind that is at least ``low``."""

    name = "number"

    def __init__(self, kind: type, low: float, above: bool = False) -> None:
        self.kind, self.low, self.above = kind, low, above

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        words = (
            f"{'a whole number' if self.kind is int else 'a number'} {'above' if self.above else 'from'} {self.low:g}"
        )
        try:
            number = self.kind(value)
        except ValueError:
            number = None
        if number is None or not self.low <= number < 1e15 or (self.above and number == self.low):
            raise RequestError(f"{param.opts[0]} {value} is not valid; it takes {words}{'' if self.above else ' on'}")
        return number


WHOLE, POSITIVE = Number(int, 1), Number(float, 0, above=True)


@click.command()
@click.argument("suite", required=False)
@click.option(
    "-p", "--problem", "problems", multiple=True, metavar="SPEC", help="A problem, e.g. 'quadratic(kappa=100)'."
)
@click.option("-s", "--solver", "solvers", multiple=True, metavar="SPEC", help="A solver, or a file that defines one.")
@click.option("--seeds", metavar="SEEDS", help="0-4, or 0,2,5, or 3.")
@click.option("--steps", type=WHOLE, metavar="N", help="Limit of outer steps.")
@click.option("--seconds", type=POSITIVE, metavar="S", help="Limit of solver seconds.")
@click.option("--calls", type=WHOLE, metavar="N", help="Limit of oracle calls.")
@click.option("--rows", type=WHOLE, metavar="N", help="Limit of rows of data behind the calls.")
@click.option("--device", metavar="cpu|cuda")
@click.option("--dtype", metavar="float32|float64")
@click.option(
    "--engine", metavar="NAME",
    help="eager (default), functional, compiled, compiled_oracle, cuda_graph, jax, batched, in_process.",
)  # fmt: skip
@click.option("--batch-seeds", is_flag=True, help="All seeds of a solver in one pass (--engine batched); no seconds.")
@click.option("--threads", type=WHOLE, metavar="N", help="Threads of each run (1 unless a suite says else).")
@click.option("--iterates", is_flag=True, default=None, help="Keep x and y at every look (up to 1000 variables).")
@click.option("--judge", metavar="figures", help="By the problem's own figures alone: Phi is not judged.")
@click.option("--keep", metavar="x,y", help="Store the last x, y or both of each run, of any size, as safetensors.")
@click.option("--in-process", is_flag=True, help="No processes: nothing is timed, and a crash takes the command along.")
@click.option("--jobs", type=WHOLE, default=1, metavar="N", help="Runs at a time; more than 1 spoils the seconds.")
@click.option(
    "--timeout", type=POSITIVE, default=600.0, metavar="S", help="Limit of a solver's seconds in a run (600)."
)
@click.option(
    "--patience", type=POSITIVE, default=600.0, metavar="S",
    help="Limit of whatever is not the solver's: importing, building, judging (600 each).",
)  # fmt: skip
@click.option("--here", is_flag=True, help="Results of another machine do not stand in for those of this one.")
@click.option("--tune", is_flag=True, help="Tune solvers given without settings (-s) first, as a suite's own were.")
@click.option("--paper", metavar="NAME", help="With the suite `papers`: one paper, bome or penalty.")
@click.option("--claim", "claims", multiple=True, metavar="ID", help="With `papers`: a claim, as `list claims` has it.")
@click.option("--scale", metavar="quick|published", help="With `papers`: fewer seeds and steps (default), or its own.")
@click.option(
    "--on", metavar="WHERE",
    help="tcp://HOST:8786 (a Dask scheduler), dask (a local one), slurm, or folder (a plan to join).",
)  # fmt: skip
@click.option(
    "--slurm", multiple=True, metavar="NAME=VALUE,..", help="Options of sbatch: partition=short,time=2:00:00."
)
@click.option("--join", type=click.Path(path_type=Path), metavar="FOLDER", help="Work on a folder's plan, no more.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), help="Folder of the results.")
@click.pass_context
def run(
    context: click.Context, suite: str | None, join: Path | None, out: Path, paper: str | None,
    claims: tuple[str, ...], scale: str | None, **options: Any,
) -> None:  # fmt: skip
    """Run a suite (default: `default`), or problems (-p) with solvers (-s), and write a report.

    `run papers` tries the experiments of two papers and says of each whether it is reproduced (into results/papers).

    With -s alone the solvers join a suite's own; with -p alone every solver runs with its defaults. Runs that are
    already finished in --out are not made again: an interrupted command is resumed by repeating it.

    Exit code 0: all runs were made, even if solvers diverge, which is a finding, or are unsupported. 1: a run ended in
    an error, a timeout or out of memory, was lost, or found a fault in its problem. 2: the request cannot be read.
    """
    if join is not None:
        _join(context, join, suite, options)
        return
    from ..api.prepare import prepared

    command = "bilevelbench " + shlex.join(sys.argv[1:])
    if suite == papers.NAME:
        papers.run_papers(context, command, paper, claims, scale or "quick", out, options)
    if paper or claims or scale:
        name = "--paper" if paper else "--claim" if claims else "--scale"
        raise RequestError(f"{name} goes with the suite papers: bilevelbench run papers {name} ...")
    problems, solvers = options.pop("problems"), options.pop("solvers")
    with prepared(problems, solvers, suite=suite, out=out, command=command, **options) as comparison:
        click.echo(_opening(comparison))
        try:
            comparison.make()
        except KeyboardInterrupt:
            click.echo(f"interrupted: {comparison.done} finished in {out}; the same command resumes", err=True)
            sys.exit(130)
    if options["on"] == "folder":
        click.echo(f"a plan of {len(comparison.todo)} runs is in {out}; join it with: bilevelbench run --join {out}")
        return
    written(comparison.results(), out / "report")
    sys.exit(0 if comparison.good() else 1)


def _join(context: click.Context, folder: Path, suite: str | None, options: dict[str, Any]) -> None:
    from ..api.join import join

    others = context.params.keys() - {"join", "jobs", "patience"}
    if said := {n for n in others if context.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}:
        option = suite if "suite" in said else papers.option(min(said))
        raise RequestError(
            f"--join works on the plan of a folder, and other runs were asked for; leave out {option} (it takes --jobs "
            "and --patience)"
        )
    try:
        made = join(folder, jobs=options["jobs"], patience=options["patience"])
    except KeyboardInterrupt:
        click.echo("interrupted: what is finished is in the folder", err=True)
        sys.exit(130)
    click.echo(f"{made} run{'s' if made != 1 else ''} finished; nothing of the plan in {folder} is left to be made")


def _opening(comparison: Comparison) -> str:
    suite, total, todo = comparison.suite, len(comparison.jobs), len(comparison.todo)
    done = f"; {total - todo} of them are finished already" if todo < total else ""
    about = f"{suite.name}: {suite.about}\n" if suite.about else ""
    return f"{about}{total} run{'s' if total != 1 else ''} into {comparison.out}{done}"
