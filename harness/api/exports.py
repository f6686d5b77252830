"""Tables as files for elsewhere: CSV, Parquet, LaTeX."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bilevelbench.core.errors import RequestError
from bilevelbench.store.files import make_folder, written

from .columns import ordered

if TYPE_CHECKING:
    import pandas as pd

    from bilevelbench.stats.compare import Comparison
    from bilevelbench.store.looks import Looks

    from .results import Results

    Parts = Iterable[pd.DataFrame]  # with the same columns: ten million looks are not in memory at once

LEADERS = {
    "solver": "solver", "class": "class", "cost": "cost", "share": "targets held", "seconds": "seconds ÷ best",
    "memory": "peak memory", "failed": "failed",
}  # fmt: skip
TEX = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}", "∞": r"$\infty$", "–": "--", "—": "---", "÷": r"$\div$", "…": r"\ldots{}",
}  # fmt: skip


def tables(results: Results, stored: Looks) -> dict[str, Parts]:
    """What is exported of results; ``stored``: their looks."""
    return {
        "runs": [results.runs], "looks": looks(stored), "targets": [results.targets], "leaders": [results.leaders()],
    }  # fmt: skip


def looks(stored: Looks) -> Iterator[pd.DataFrame]:
    """The looks, a problem at a time."""
    columns = ordered(stored.columns)
    some = [problem for problem in stored.problems if stored.length(problem)] or stored.problems[:1]
    yield from (stored.of(problem).reindex(columns=columns) for problem in some)


def csv(tables: Mapping[str, Parts], folder: Path) -> list[Path]:
    """A file for each table."""
    from bilevelbench.report import sheet

    return _written(tables, folder, "csv", sheet.write_parts)


def needs_pyarrow(what: str) -> None:
    """Raise a ``RequestError`` where there is no pyarrow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise RequestError(f"{what} needs pyarrow: pip install 'bilevelbench[parquet]'") from None


def parquet(tables: Mapping[str, Parts], folder: Path) -> list[Path]:
    """A file for each table, with a row group or more for each of its parts; RequestError where there is no pyarrow."""
    needs_pyarrow("to_parquet")
    import pyarrow
    from pyarrow import parquet

    def write(parts: Parts, path: Path) -> None:
        made = (pyarrow.Table.from_pandas(part, preserve_index=False) for part in parts)
        first = next(made)
        with written(path) as private, parquet.ParquetWriter(private, first.schema) as writer:
            for table in itertools.chain([first], made):
                writer.write_table(table)

    return _written(tables, folder, "parquet", write)


def latex(found: Comparison) -> str:
    """The leader table as the report shows it. A cost is bold where its lead is kept in resampling; where nobody keeps
    it, those who may lead have a dagger."""
    from bilevelbench.report import style, tables

    rows, standing = [], found.standings.get("calls")
    for row in tables.leaders(found.leaders, style.Palette({})):
        cells = {name: _escaped(row[name]) for name in LEADERS}
        if standing and row["solver"] == standing.winner:
            cells["cost"] = rf"\textbf{{{cells['cost']}}}"
        elif standing and not standing.winner and len(standing.among) > 1 and row["solver"] in standing.among:
            cells["cost"] += r"$^\dagger$"
        rows.append(" & ".join(cells.values()) + r" \\")
    note = [r"% dagger: nobody leads surely among these"] if any("dagger" in row for row in rows) else []
    return "\n".join(
        [
            rf"\begin{{tabular}}{{ll{'r' * (len(LEADERS) - 2)}}}", r"\toprule",
            " & ".join(map(_escaped, LEADERS.values())) + r" \\", r"\midrule", *rows, r"\bottomrule",
            r"\end{tabular}", *note, "",
        ]
    )  # fmt: skip


def _escaped(text: str) -> str:
    """A text as TeX sets it, sign by sign."""
    return "".join(TEX.get(sign, sign) for sign in text)


def unwritten(folder: Path, error: OSError) -> RequestError:
    """The error for a folder that cannot be written."""
    return RequestError(f"out {folder} cannot be written ({error.strerror}); name a folder that you can write")


def _written(
    tables: Mapping[str, Parts], folder: Path, suffix: str, write: Callable[[Parts, Path], None]
) -> list[Path]:
    paths = [folder / f"{name}.{suffix}" for name in tables]
    try:
        make_folder(folder)
        for path, table in zip(paths, tables.values(), strict=True):
            write(table, path)
    except OSError as error:
        raise unwritten(folder, error) from None
    return paths
