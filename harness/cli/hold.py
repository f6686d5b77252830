"""`bilevelbench check` and `bilevelbench gate`: solvers and problems held to what they say, and to what they cost."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click


@click.command()
@click.argument("name")
def check(name: str) -> None:
    """Hold a solver or a problem to the contract and to what it says of itself. Exit code 1 when a check fails.

    NAME is a name, a file.py or file.py:name; 'solvers' and 'problems' are all that there are.
    """
    from ..contract import verdicts

    passed = True
    for ok, line in verdicts(name):
        passed &= ok
        click.echo(line)
    sys.exit(0 if passed else 1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def examine(file: Path) -> None:
    """Hold anybody's hypergradient to known answers. Exit code 1 when something is wrong.

    FILE is a Python file with hypergradient(f, g, x, y). A PEP 723 header says which packages it needs; it then runs in
    an environment of its own, by uv.
    """
    from ..contract.examine import examine as observations

    found = observations(file)
    for what, text, fine in found:
        click.echo(f"{'ok   ' if fine else 'WRONG'} {what}: {text}")
    sys.exit(0 if all(one.fine for one in found) else 1)


@click.command()
@click.argument("solvers", nargs=-1)
@click.option("--baseline", type=click.Path(path_type=Path), required=True, help="The file to be held to.")
@click.option("--update", is_flag=True, help="Write what is found into the file instead.")
@click.option("--layer", "layers", multiple=True, metavar="LAYER", help="calls, operations, bytes, floor (all).")
@click.option("-p", "--problem", metavar="SPEC", help="Measure on this problem, not on the gate's own.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table for a pull request.")
def gate(
    solvers: tuple[str, ...], baseline: Path, update: bool, layers: tuple[str, ...], problem: str | None,
    markdown: Path | None,
) -> None:  # fmt: skip
    """Hold what solvers cost to a baseline: calls, operations, bytes, steps over floor. Exit code 1 when one fails.

    SOLVERS are names or files; without any, all that come with the package.
    """
    from ..contract import gate as gates
    from ..contract.baseline import VERSION
    from ..contract.layers import LAYERS, ON
    from ..core.errors import RequestError
    from ..core.registry import SOLVERS
    from ..core.spec import suggest

    for layer in layers:
        if layer not in LAYERS:
            raise RequestError(f"the gate has no layer {layer!r}; {suggest(layer, LAYERS)}")
    names = [f"{name}{ON}{problem}" if problem else name for name in list(solvers) or SOLVERS.names()]
    if update:
        with _written(baseline):
            gates.update(baseline, names, layers or LAYERS)
        click.echo(f"{len(names)} solver{'s' if len(names) != 1 else ''} in {baseline}, for {VERSION}")
        return
    known = gates.read(baseline)
    found = []
    for name in names:
        for layer in layers or LAYERS:
            found.append(gates.verdict(name, layer, known))
            click.echo(gates.line(found[-1], baseline))
    if markdown is not None:
        with _written(markdown):
            markdown.write_text(gates.table(found, baseline), encoding="utf-8")
    sys.exit(0 if all(verdict.passed for verdict in found) else 1)


@contextlib.contextmanager
def _written(file: Path) -> Iterator[None]:
    """A file that cannot be written, as one sentence."""
    from ..api.exports import unwritten

    try:
        yield
    except OSError as error:
        raise unwritten(file, error) from None
