"""What handing runs out costs, and whether workers wait.

    python -m tests.campaigns.overhead cpu [RUNS [ROUNDS]]
    python -m tests.campaigns.overhead busy [RUNS [WORKERS]]

``cpu``: CPU seconds of all processes, a run, beyond those of this machine's own driver: through a Dask scheduler and
its worker, and by joining the plan of a folder, which is what an array of Slurm does. Each way is warm, batches of RUNS
are interleaved, the median over ROUNDS is told. ``busy``: the share of time in which each of as many workers as there
are cores makes a run, while there are RUNS of about two seconds; it is sampled twenty times a second.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bilevelbench.run.child import processes
from bilevelbench.run.drive import Driver
from bilevelbench.run.elsewhere import Elsewhere
from bilevelbench.run.on import plan
from bilevelbench.run.on.dask import Dask
from bilevelbench.run.on.hand import Hand
from bilevelbench.run.on.text import Reader
from bilevelbench.run.plan import expand
from bilevelbench.run.request import requested
from bilevelbench.store.files import finals
from tests import clusters

SIBLING = "test_a_child_makes_runs_refuses_others_and_leaves_with_whoever_started_it"
EVERY = 0.05  # seconds between two samples


def silent(*_: Any) -> None:
    """Nobody is told."""


def jobs(ask: Elsewhere, out: Path, seeds: range, **options: Any) -> list[Any]:
    out.mkdir(parents=True)
    suite = requested(None, ["quadratic(d=4)"], ["bome"], list, seeds=list(seeds), **options)
    return expand(suite, out, "overhead", 600.0, ask=ask, place=ask.place)


def spent() -> float:
    """CPU seconds of this process and of all that it has started, those that have ended included."""
    whole = 0.0
    for one in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        whole += times.user + times.system + times.children_user + times.children_system
    return whole


def cpu(runs: int = 8, rounds: int = 3) -> dict[str, Any]:
    scratch = Path(tempfile.mkdtemp())
    definitions = scratch / "definitions"
    definitions.mkdir()
    (scratch / "cluster").mkdir()
    with processes() as started, clusters.dask(scratch / "cluster", 1) as (address, _):
        ask, reader = Elsewhere(started, 600.0), Reader(started, definitions, 600.0)

        def local(todo: list[Any], out: Path) -> None:
            Driver(out, started, ask.environment, 1, silent, silent).run(todo)

        def dask(todo: list[Any], out: Path) -> None:
            Hand(out, Dask(address, 1), silent, silent).run(todo)

        def folder(todo: list[Any], out: Path) -> None:
            plan.write(out, todo)
            Driver(out, started, reader.machine.environment, 1, silent, silent).run(plan.joined(out, reader.job))

        ways: dict[str, Callable[[list[Any], Path], None]] = {"local": local, "dask": dask, "folder": folder}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for k in range(-1, rounds):  # the first warms
            for name, way in ways.items():
                out = scratch / f"{name}{k}"
                todo = jobs(ask, out, range(1 if k < 0 else runs), steps=30)
                before = spent()
                way(todo, out)
                assert len(finals(out)) == len(todo)
                if k >= 0:
                    found[name].append((spent() - before) / runs)
    more = {
        name: [round(own - here, 3) for own, here in zip(found[name], found["local"], strict=True)]
        for name in ("dask", "folder")
    }
    return {
        "local": [round(value, 3) for value in found["local"]], "more": more,
        "median": {name: statistics.median(values) for name, values in more.items()},
    }  # fmt: skip


def busy(runs: int = 40, workers: int = 0) -> dict[str, Any]:
    workers = workers or len(os.sched_getaffinity(0))
    scratch, samples, over = Path(tempfile.mkdtemp()), list[tuple[float, int]](), threading.Event()
    (scratch / "cluster").mkdir()

    def sample() -> None:
        """How many makers have a run under way: a child of their server."""
        while not over.wait(EVERY):
            making = 0
            for one in psutil.process_iter(["cmdline"]):
                if "bilevelbench.run.on.maker" in (one.info["cmdline"] or ()):
                    try:
                        making += any(server.children() for server in one.children())
                    except psutil.Error:
                        continue
            samples.append((time.monotonic(), making))

    with processes() as started, clusters.dask(scratch / "cluster", workers) as (address, _):
        ask = Elsewhere(started, 600.0)
        Hand(scratch / "warm", Dask(address, workers), silent, silent).run(
            jobs(ask, scratch / "warm", range(2 * workers), steps=3)
        )
        todo = jobs(ask, scratch / "out", range(runs), seconds=1.0)
        ask_ended: list[float] = []
        thread = threading.Thread(target=sample)
        thread.start()
        begin = time.monotonic()
        Hand(scratch / "out", Dask(address, workers), silent, lambda *_: ask_ended.append(time.monotonic())).run(todo)
        over.set()
        thread.join()
    last = sorted(ask_ended)[-workers]  # from then on there is nothing left for somebody
    within = [making for at, making in samples if begin <= at <= last]
    return {
        "workers": workers, "runs": runs, "wall": round(max(ask_ended) - begin, 1),
        "seconds_a_run": round(workers * (last - begin) / (runs - workers), 2),
        "busy": round(sum(within) / (workers * len(within)), 3),
    }  # fmt: skip


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    print(json.dumps({"cpu": cpu, "busy": busy}[what](*map(int, numbers))))
