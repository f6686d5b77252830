"""What a run was made on and with: versions, commit, machine, load. Does without torch where nothing is asked of it."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bilevelbench.core.spec import DEFINITION

HOME = Path(__file__).resolve().parents[1]  # harness/, or bilevelbench/ where a wheel is installed
ROOMS = ("core", "measure", "run", "data")  # whose source a run executes


def environment(device: str) -> dict[str, Any]:
    """The record of a header: the fixed part, and what this moment is like."""
    return {**_fixed(device), **moment()}


def moment() -> dict[str, Any]:
    """What changes during a run: the machine's load, and its clock frequency where the system tells it."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    found: dict[str, Any] = {"load": [round(value, 2) for value in load]}
    if megahertz := _megahertz():
        found["megahertz"] = megahertz
    torch = sys.modules.get("torch")  # who has not imported it has no device at work
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        found |= _nvidia("clocks.sm,temperature.gpu", ("gpu_megahertz", "gpu_celsius"))
    return found


def now() -> str:
    """The time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _megahertz() -> int | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return None
    return round(frequency.current) if frequency and frequency.current else None


def _nvidia(query: str, names: tuple[str, ...]) -> dict[str, str]:
    """What the driver's own tool says of the first device; nothing where it is not there."""
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.partition("\n")[0].split(",")]
    return dict(zip(names, values, strict=True)) if done.returncode == 0 and len(values) == len(names) else {}


@functools.lru_cache
def _fixed(device: str) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "bilevelbench": _version("bilevelbench"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "machine": platform.machine(),
        "host": hashlib.sha256(f"{platform.node()} {uuid.getnode()}".encode()).hexdigest()[:8],
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "blas": _blas(),
        "lock": _lock(),
        **repository(HOME / "__init__.py"),
    }
    if torch.device(device).type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        found |= _nvidia("driver_version", ("driver",))
    return found


def _blas() -> str:
    """The library behind torch's matrix products."""
    import torch

    shown = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", torch.__config__.show())
    return " ".join(part for part in (shown[1] if shown else "", mkl[1] if mkl else "") if part)


def _lock() -> str:
    """Digest of the lock file of a checkout: which versions of everything were meant to be installed."""
    file = HOME.parent / "uv.lock"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else ""


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


@functools.lru_cache(maxsize=64)
def repository(file: Path) -> dict[str, Any]:
    """Commit of the git repository that a file is kept in, and whether the tree (or the file, if not yet added)
    differs from it; commit "" and dirty None where there is none, or where it ignores the file."""
    none: dict[str, Any] = {"commit": "", "dirty": None}
    git = ["git", "-c", "core.fsmonitor=false", "-C", str(file.parent)]

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*git, *words], capture_output=True, text=True, timeout=10)

    try:
        commit = ask("rev-parse", "HEAD")
        kept = ask("ls-files", "--error-unmatch", file.name).returncode == 0
        if commit.returncode != 0 or (not kept and ask("check-ignore", "-q", file.name).returncode == 0):
            return none
        dirty = ask("status", "--porcelain", "-uno")
    except (OSError, subprocess.TimeoutExpired):
        return none
    return {"commit": commit.stdout.strip(), "dirty": not kept or bool(dirty.stdout.strip())}


@functools.lru_cache(maxsize=1024)
def source_digest(*files: Path, rooms: tuple[str, ...] = ROOMS) -> str:
    """Digest of the source that a run executes: kernel, measuring and running, data, shared pieces, the given files.

    Part of the RunKey: a change of code is another experiment, and nothing measured with the old code stands for it.
    """
    paths: set[Path] = {*files}
    for room in rooms:
        paths.update((HOME / room).glob("*.py"))
    for folder in {path.parent for path in files}:
        paths.update(folder.glob("_[!_]*.py"))
    return _digest(sorted(paths, key=lambda path: (path.name, str(path))))


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        known = path.suffix == DEFINITION or not path.is_file()  # its name says what is in it; there is none to be read
        digest.update(path.name.encode() + b"\0" + (b"" if known else path.read_bytes()) + b"\0")
    return digest.hexdigest()[:16]
