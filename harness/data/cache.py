"""What is made from data and takes long: kept in the user cache under a digest of all that it depends on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import scipy
import torch

Lines = dict[str, dict[str, float]]


def root() -> Path:
    """$BILEVELBENCH_CACHE, or the user's cache directory."""
    return Path(os.environ.get("BILEVELBENCH_CACHE") or platformdirs.user_cache_dir("bilevelbench"))


def arrays(name: str, key: object, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, made once for a key. A file that cannot be read is made anew, one that cannot be kept is not."""
    path = _path(name, key, "npz")
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        made = dict(make())
    _write(path, lambda file: np.savez(file, **made))  # type: ignore[arg-type]
    return made


def lines(name: str, key: Mapping[str, object], make: Callable[[], tuple[Lines, Mapping[str, Any]]]) -> Lines:
    """Reference lines, solved once for a key. ``make`` answers them and how they were had; both are kept as JSON."""
    path = _path(name, key, "json")
    try:
        kept: Lines = json.loads(path.read_text(encoding="utf-8"))["lines"]
        return kept
    except (OSError, ValueError, KeyError, TypeError):
        made, how = make()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "scipy": scipy.__version__}
    record = {"lines": made, "of": dict(key), "how": dict(how), "versions": versions, "machine": platform.machine()}
    _write(path, lambda file: file.write(json.dumps(record, indent=1, default=str).encode()))
    return made


def _path(name: str, key: object, suffix: str) -> Path:
    text = json.dumps(key, sort_keys=True, default=str)
    return root() / "made" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.{suffix}"


def _write(path: Path, fill: Callable[[Any], object]) -> None:
    """The file appears whole or not at all; where the cache cannot be written nothing is kept."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                fill(file)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
