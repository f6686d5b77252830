"""`bilevelbench figure`: one figure, or the table of leaders, for a paper."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.errors import RequestError

SUFFIXES = (".pdf", ".svg", ".png")


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--kind", default="convergence", metavar="KIND",
    help="convergence, profile, ecdf, memory, sensitivity, trajectory; or table, of the leaders as LaTeX.",
)  # fmt: skip
@click.option("-p", "--problem", multiple=True, metavar="NAME", help="A problem, as in the report; several are panels.")
@click.option("-s", "--solver", multiple=True, metavar="NAME", help="A solver that is shown (all).")
@click.option("--y", default="phi_gap", metavar="METRIC", help="The metric of convergence (phi_gap).")
@click.option("--x", metavar="AXIS", help="calls, passes, grads, rows, steps or seconds (calls).")
@click.option(
    "--for", "width", default="jmlr", metavar="STYLE", help="neurips, icml, jmlr, siam or a width such as 252pt."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="A .pdf, .svg or .png; .tex of a table."
)
def figure(
    results: tuple[Path, ...], kind: str, problem: tuple[str, ...], solver: tuple[str, ...], y: str, x: str | None,
    width: str, out: Path,
) -> None:  # fmt: skip
    """Draw one figure of RESULTS at the width of a paper's column, with its fonts embedded."""
    known = (".tex",) if kind == "table" else SUFFIXES
    if out.suffix not in known:
        raise RequestError(f"--out {out} is not valid for kind={kind!r}; its name ends in {' or '.join(known)}")
    from ..api.exports import unwritten
    from ..api.results import load

    found = load(*(results or [Path("results")]))
    try:
        if kind == "table":
            out.write_text(found.to_latex(), encoding="utf-8")
        else:
            found.figure(kind, list(problem) or None, solvers=list(solver) or None, y=y, x=x, width=width).write(out)
    except OSError as error:
        raise unwritten(out, error) from None
    click.echo(f"figure: {out}")
