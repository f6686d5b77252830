"""pytest in a fork of a process that has imported what is heavy, in a copy of the tree, ended when it hangs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

PARTS = ("harness", "solvers", "problems", "tests", "reports", "pyproject.toml", ".typings", "README.md", ".ci")
# What every test needs and no fault touches: imported once, and then forked.
HEAVY = ("torch", "numpy", "pandas", "scipy.stats", "seaborn", "hypothesis", "sklearn.linear_model", "pytest",
         "torch._subclasses.fake_tensor", "torch.func", "torch.fx.experimental.proxy_tensor")  # fmt: skip
QUIET = ("-q", "-p", "no:cacheprovider")
ASLEEP = 60.0  # wall seconds in which no process wanted a processor: it waits for what does not come
LOOK = 1.0  # wall seconds between two looks at what the processes do
LOST = 1800.0  # wall seconds: the machine has no time for us, and nothing is said about the fault


def copied(root: Path, work: Path) -> Path:
    """The tree at ``work``, and beside it the package as it is installed, whose folder is returned."""
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, work / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / part).exists():
            shutil.copy2(root / part, work / part)
    site = work / "site" / "bilevelbench"
    shutil.copytree(work / "harness", site)
    for name in ("solvers", "problems"):
        shutil.copytree(work / name, site / name)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site.parent), str(work)])
    return site


def in_a_fork(
    root: Path, work: Path, arguments: list[str], limit: float, plugin: Callable[[], Any] | None = None,
    keep_bytecode: bool = False,
) -> tuple[int | str, float]:  # fmt: skip
    """pytest's exit code, or how the fork hung, and the CPU seconds of all its processes. ``limit``: of those."""
    if keep_bytecode:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    else:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # of two faults within a second the older would be loaded
    process = os.fork()
    if process == 0:
        sys.dont_write_bytecode = not keep_bytecode
        _be_pytest(root, work, arguments, plugin)
    return watch(process, limit)


def failing(root: Path, work: Path, tests: Sequence[str]) -> list[str]:
    """Those of the tests that fail in the copy as it is."""
    if tests:
        in_a_fork(root, work, [*QUIET, *tests], 3600)
    return failures(work) if tests else []


def failures(work: Path) -> list[str]:
    """The tests that pytest has said to fail."""
    said = (work / "out.txt").read_text(errors="replace").splitlines()
    return sorted({line.split(" ")[1] for line in said if line.startswith(("FAILED ", "ERROR "))})


def _be_pytest(root: Path, work: Path, arguments: list[str], plugin: Callable[[], Any] | None) -> None:
    os.setsid()
    os.chdir(work)
    out = os.open(work / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.path[:] = [str(work), str(work / "site"), *(p for p in sys.path if p not in ("", str(root)))]
    sys.argv = ["pytest", *arguments]
    code = 3
    try:
        plugins = [plugin()] if plugin else []
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "bilevelbench")]:
            del sys.modules[name]
        code = int(pytest.main(arguments, plugins=plugins))
    finally:
        os._exit(code)


def watch(process: int, limit: float) -> tuple[int | str, float]:
    """How a child ends, or hangs and is ended with all that it started; and the CPU seconds of them all."""
    begin, status, spent, said = time.monotonic(), None, 0.0, ""
    awake, looked, usage = begin, begin, None
    while status is None and not said:
        ended, found, usage = os.wait4(process, os.WNOHANG)
        status, now = found if ended else None, time.monotonic()
        if status is None and now > looked + LOOK:
            looked = now
            spent, wants = _family(process)
            awake = now if wants else awake
            said = ("hangs: CPU" if spent > limit else "hangs: asleep" if now > awake + ASLEEP
                    else "lost" if now > begin + LOST else "")  # fmt: skip
        time.sleep(0.03)
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
        return said, spent
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime if usage else spent


def _family(process: int) -> tuple[float, bool]:
    """CPU seconds of a process and all below it, and whether one of them wants a processor or a disk now."""
    spent, wants = 0.0, False
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(process)
        for each in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                spent += sum(each.cpu_times()[:4])
                wants = wants or each.status() in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    return spent, wants
