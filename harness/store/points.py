"""Points of any size, as safetensors: no pickle, nothing that is run when it is read. It does without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from . import files

SUFFIX = ".safetensors"


def beside(record: Path) -> Path:
    """The file for the points of a run, next to its record of this name."""
    return record.with_name(record.name.removesuffix(files.FINAL) + SUFFIX)


def write(path: Path, arrays: Mapping[str, np.ndarray], told: Mapping[str, str]) -> None:
    """Write arrays, with texts that say what they are, in the place of whatever was there."""
    with files.written(path) as private:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, private, dict(told))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and what is said of them. ``files.Unreadable`` where it is no such file."""
    if not files.is_plain(path):
        raise files.Unreadable("is not there" if not path.exists() else "is no plain file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise files.Unreadable(f"is no file of points ({error})") from None


def names(path: Path) -> set[str]:
    """What a file of points holds; nothing where there is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (SafetensorError, OSError):
        return set()
