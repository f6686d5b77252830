"""What a run was made on and with: versions, commit, machine, load."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

HOME = Path(__file__).resolve().parents[1]  # harness/, or bilevelbench/ where a wheel is installed


def environment(device: str) -> dict[str, Any]:
    """The record of a header: the fixed part, and the load of this moment."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    return {**_fixed(device), "load": [round(value, 2) for value in load]}


@functools.lru_cache
def _fixed(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bilevelbench": _version("bilevelbench"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        **_commit(),
    }
    if torch.device(device).type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> dict[str, Any]:
    """Commit and whether the tree differs from it; empty where the package does not run from a checkout."""
    if not (HOME.parent / ".git").exists():
        return {"commit": "", "dirty": None}
    try:
        git = ["git", "-C", str(HOME.parent)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": "", "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(dirty.stdout.strip())}


@functools.lru_cache(maxsize=1024)
def source_digest(*files: Path) -> str:
    """Digest of the source that a run executes: the kernel, the measuring code, shared pieces and the given files.

    Part of the RunKey: a change of code is another experiment, and nothing measured with the old code stands for it.
    """
    paths: set[Path] = {*files}
    paths.update((HOME / "core").glob("*.py"), (HOME / "run").glob("*.py"))
    for folder in {path.parent for path in files}:
        paths.update(folder.glob("_[!_]*.py"))
    return _digest(sorted(paths, key=lambda path: (path.name, str(path))))


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
