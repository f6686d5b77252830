"""Tables as files for elsewhere: CSV, Parquet, LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bilevelbench.core.errors import RequestError
from bilevelbench.store.files import make_folder

if TYPE_CHECKING:
    import pandas as pd

LEADERS = {
    "solver": "solver", "class": "class", "share": "targets", "calls": "calls", "seconds": "seconds",
    "memory": "peak memory", "failed": "failed",
}  # fmt: skip


def csv(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """A file for each table."""
    from bilevelbench.report import sheet

    return _written(tables, folder, "csv", sheet.write)


def needs_pyarrow(what: str) -> None:
    """Raise a ``RequestError`` where there is no pyarrow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise RequestError(f"{what} needs pyarrow: pip install 'bilevelbench[parquet]'") from None


def parquet(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """A file for each table; RequestError where there is no pyarrow."""
    needs_pyarrow("to_parquet")

    def write(table: pd.DataFrame, path: Path) -> None:
        table.to_parquet(path, engine="pyarrow", index=False)

    return _written(tables, folder, "parquet", write)


def latex(leaders: pd.DataFrame) -> str:
    """The leader table as the report shows it."""
    import pandas as pd

    from bilevelbench.report import style, tables

    rows = tables.leaders(leaders, style.Palette({}))
    table = pd.DataFrame([{head: row[name] for name, head in LEADERS.items()} for row in rows])
    return str(table.to_latex(index=False, escape=True, column_format="ll" + "r" * (len(LEADERS) - 2)))


def unwritten(folder: Path, error: OSError) -> RequestError:
    """The error for a folder that cannot be written."""
    return RequestError(f"out {folder} cannot be written ({error.strerror}); name a folder that you can write")


def _written(
    tables: Mapping[str, pd.DataFrame], folder: Path, suffix: str, write: Callable[[pd.DataFrame, Path], None]
) -> list[Path]:
    paths = [folder / f"{name}.{suffix}" for name in tables]
    try:
        make_folder(folder)
        for path, table in zip(paths, tables.values(), strict=True):
            write(table, path)
    except OSError as error:
        raise unwritten(folder, error) from None
    return paths
