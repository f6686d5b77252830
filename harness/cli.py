"""The command line. Imports are inside the commands, so that ``--help`` and ``--version`` do not wait for torch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .core.errors import RequestError

if TYPE_CHECKING:
    from .report.page import Report
    from .run.suite import Suite


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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="bilevelbench", message="%(prog)s %(version)s")
def cli() -> None:
    """Compare bilevel solvers honestly: wall-clock, oracle calls, memory and convergence.

    `bilevelbench run` makes the default comparison and writes a report.
    """


@cli.command()
@click.argument("suite", required=False)
@click.option(
    "-p", "--problem", "problems", multiple=True, metavar="SPEC", help="A problem, e.g. 'quadratic(kappa=100)'."
)
@click.option("-s", "--solver", "solvers", multiple=True, metavar="SPEC", help="A solver, or a file that defines one.")
@click.option("--seeds", metavar="SEEDS", help="0-4, or 0,2,5, or 3.")
@click.option("--steps", type=WHOLE, metavar="N", help="Limit of outer steps.")
@click.option("--seconds", type=POSITIVE, metavar="S", help="Limit of solver seconds.")
@click.option("--calls", type=WHOLE, metavar="N", help="Limit of oracle calls.")
@click.option("--device", metavar="cpu|cuda")
@click.option("--dtype", metavar="float32|float64")
@click.option(
    "--engine", metavar="NAME", help="eager (default), functional, compiled, compiled_oracle, cuda_graph, batched."
)
@click.option("--batch-seeds", is_flag=True, help="All seeds of a solver in one pass (--engine batched); no seconds.")
@click.option("--threads", type=WHOLE, metavar="N", help="Threads of each run (1 unless a suite says else).")
@click.option("--iterates", is_flag=True, default=None, help="Keep x and y at every look (up to 1000 variables).")
@click.option("--jobs", type=WHOLE, default=1, metavar="N", help="Runs at a time; more than 1 spoils the seconds.")
@click.option("--timeout", type=POSITIVE, default=600.0, metavar="S", help="Hard limit of a run, in seconds (600).")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), help="Folder of the results.")
def run(
    suite: str | None, problems: tuple[str, ...], solvers: tuple[str, ...], jobs: int, timeout: float, out: Path,
    **options: Any,
) -> None:  # fmt: skip
    """Run a suite (default: `default`), or problems (-p) with solvers (-s), and write a report.

    With -s alone the solvers join a suite's own; with -p alone every solver runs with its defaults. Runs that are
    already finished in --out are not made again: an interrupted command is resumed by repeating it.
    """
    from .run.drive import make_folder
    from .run.plan import expand, unfinished
    from .run.request import requested

    chosen = requested(suite, problems, solvers, **options)
    plan = expand(chosen, out, "bilevelbench " + shlex.join(sys.argv[1:]), timeout)
    make_folder(out)
    todo = unfinished(plan)
    click.echo(_opening(chosen, len(plan), len(todo), out))
    _make(todo, jobs, out)
    _report(out, out / "report", [job.path.name for job in plan])
    from .store.journal import read
    from .store.schema import GOOD

    sys.exit(0 if all(read(job.path).status in GOOD for job in plan) else 1)


def _opening(suite: Suite, total: int, todo: int, out: Path) -> str:
    done = f"; {total - todo} of them are finished already" if todo < total else ""
    about = f"{suite.name}: {suite.about}\n" if suite.about else ""
    return f"{about}{total} run{'s' if total != 1 else ''} into {out}{done}"


def _make(todo: list[Any], jobs: int, out: Path) -> None:
    from .progress import Progress
    from .run.drive import run_all

    with Progress(len(todo)) as progress:
        try:
            run_all(todo, jobs, progress.started, progress.finished)
        except KeyboardInterrupt:
            progress.stop()
            click.echo(f"interrupted: {progress.done} finished in {out}; the same command resumes", err=True)
            sys.exit(130)


def _report(results: Path, out: Path, only: list[str] | None = None) -> Report:
    from rich.console import Console

    from .report.page import write
    from .report.terminal import show

    try:
        report = write(results, out, only)
    except ValueError as error:
        raise RequestError(str(error)) from None
    except OSError as error:
        raise RequestError(f"-o {out} cannot be written ({error.strerror}); name a folder that you can write") from None
    show(report, Console(width=None if sys.stdout.isatty() else 120))
    click.echo(f"report: {report.path}")
    return report


@cli.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the report (RESULTS/report).")
@click.option(
    "--benchmarks", type=click.Path(path_type=Path), metavar="FILE", help="Show a file of `pytest --benchmark-json`."
)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="An earlier such file, of the same machine."
)
def report(results: Path, out: Path | None, benchmarks: Path | None, against: Path | None) -> None:
    """Write the report of a folder of results, and print its table; or, with --benchmarks, a page of these."""
    if against and not benchmarks:
        raise RequestError("--against names an earlier file of benchmarks; give the later one with --benchmarks")
    if benchmarks:
        from .report import benchmarks as pages

        click.echo(f"report: {pages.write(benchmarks, out or Path('reports/gate'), against)}")
        return
    if not results.is_dir():
        raise RequestError(
            f"there is no results folder {results}; name the folder given as --out to `bilevelbench run`"
        )
    made = _report(results, out or results / "report")
    for trouble in made.troubles:
        click.echo(f"error: {trouble}", err=True)
    sys.exit(2 if made.troubles else 0)


@cli.command(name="list")
@click.argument("what", default="")
def list_(what: str) -> None:
    """List problems, solvers or suites; or the knobs of one solver or problem (`list bome`)."""
    from . import catalogue

    click.echo(catalogue.show(what))


@cli.command()
@click.argument("name")
def check(name: str) -> None:
    """Hold a solver or a problem to the contract and to what it says of itself. Exit code 1 when a check fails.

    NAME is a name, a file.py or file.py:name; 'solvers' and 'problems' are all that there are.
    """
    from .contract import verdicts

    passed = True
    for ok, line in verdicts(name):
        passed &= ok
        click.echo(line)
    sys.exit(0 if passed else 1)


@cli.group()
def data() -> None:
    """The data files behind the problems: where they are, how to get them, whether they are whole."""


@data.command(name="list")
def data_list() -> None:
    """List the sources with their files, sizes, licences, and where each file was found."""
    from .data.find import listing

    click.echo("\n".join(listing()))


@data.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a source (such as mnist) or one file into the user cache, by checksum, unless it is at hand."""
    from .core.errors import Unsupported
    from .data import find

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
    from .data.find import verify as verified

    whole = True
    for good, line in verified():
        whole &= good
        click.echo(line)
    sys.exit(0 if whole else 1)


@cli.command()
@click.argument("solvers", nargs=-1)
@click.option("--baseline", type=click.Path(path_type=Path), required=True, help="The file to be held to.")
@click.option("--update", is_flag=True, help="Write what is found into the file instead.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table for a pull request.")
def gate(solvers: tuple[str, ...], baseline: Path, update: bool, markdown: Path | None) -> None:
    """Hold what solvers cost to a baseline: calls, operations, bytes, steps over floor. Exit code 1 when one fails.

    SOLVERS are names or files; without any, all that come with the package.
    """
    from .contract import gate as gates
    from .core.registry import SOLVERS

    names = list(solvers) or SOLVERS.names()
    if update:
        gates.update(baseline, names)
        click.echo(f"{len(names)} solver{'s' if len(names) != 1 else ''} in {baseline}, for {gates.VERSION}")
        return
    known = gates.read(baseline)
    found = []
    for name in names:
        for layer in gates.LAYERS:
            found.append(gates.verdict(name, layer, known))
            click.echo(gates.line(found[-1]))
    if markdown is not None:
        markdown.write_text(gates.table(found), encoding="utf-8")
    sys.exit(0 if all(verdict.passed for verdict in found) else 1)


def main() -> None:
    """The console command. Wrong requests are one sentence and exit code 2."""
    try:
        cli.main(standalone_mode=False)
    except RequestError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
