"""What can happen to a cluster of several nodes, done to one of this machine (``tests.nodes``, ``tests.clusters``)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests import clusters, nodes

NODES = 4
DASK = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s"}


class Cluster:
    """What can be done to a cluster of either kind."""

    def __init__(self, kind: str, folder: Path, own: list[nodes.Node], processes: Any, env: dict[str, str]) -> None:
        self.kind, self.folder, self.nodes, self.processes, self.env = kind, folder, own, processes, env

    def workers(self, k: int) -> list[Any]:
        """The processes on a node that have runs made: of Dask a worker below its nanny, of Slurm what an array has
        started, and what these have started."""
        if self.kind == "dask":
            return nodes.family(self.processes.running[f"worker-{k}"].pid)[1:]
        return list(nodes.with_env("SLURMD_NODENAME", f"n{k}"))

    def all_on(self, k: int) -> list[Any]:
        name = f"worker-{k}" if self.kind == "dask" else f"n{k}"
        return [*nodes.family(self.processes.running[name].pid), *self.workers(k)]

    def begin(self, k: int) -> None:
        """Have a node come back."""
        name = f"worker-{k}" if self.kind == "dask" else f"n{k}"
        self.processes.running[name].wait(60)
        self.processes.again(name, **({"LD_PRELOAD": "", **self.nodes[k].env()} if self.kind == "dask" else {}))

    def worker_killed(self, k: int) -> None:
        mains = [p for p in self.workers(k) if "--join" in (argv := _argv(p)) or "spawn_main" in " ".join(argv)]
        nodes.kill(mains or self.workers(k)[:1])

    def node_gone(self, k: int) -> None:
        self.nodes[k].plug("down")
        time.sleep(15)
        nodes.kill(self.all_on(k))
        self.nodes[k].plug("up")
        self.begin(k)

    def preempted(self, k: int, grace: float) -> None:
        if self.kind == "slurm" and grace:  # another job wants the node: Slurm itself asks, and then kills
            self.tool("sbatch", "-p", "high", "-w", f"n{k}", "--output=/dev/null", "--wrap=sleep 2")
            return
        if self.kind == "slurm":
            jobs = {value for p in self.workers(k) if (value := _env(p).get("SLURM_JOB_ID"))}
            nodes.kill(self.workers(k))
            for job in jobs:
                self.tool("scontrol", "requeue", job)
            return
        those = self.all_on(k)
        nodes.kill(those[:1], signal.SIGTERM if grace else signal.SIGKILL)
        time.sleep(grace)
        nodes.kill(those)
        self.begin(k)

    def scheduler_restarted(self) -> None:
        name = "scheduler" if self.kind == "dask" else "controller"
        self.processes.kill(name)
        time.sleep(2)
        self.processes.again(name)

    def tend(self) -> None:
        """Start again the workers that have left: they do with their scheduler, with exit code 0, sooner or later."""
        for k in range(NODES if self.kind == "dask" else 0):
            if self.processes.running[f"worker-{k}"].poll() is not None:
                self.begin(k)

    def disk_full(self, k: int, seconds: float) -> None:
        self.nodes[k].fill()
        assert self.nodes[k].full()
        time.sleep(seconds)
        self.nodes[k].clear()

    def clock_off(self, k: int, seconds: int) -> None:
        node = self.nodes[k]
        node.seconds = seconds
        node.clock.write_text("".join(f"export {name}={value}\n" for name, value in node.env().items()))
        if self.kind == "dask":
            nodes.kill(self.all_on(k))
            self.begin(k)
        else:
            self.preempted(k, 0.0)

    def tool(self, *command: str) -> None:
        subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, timeout=60, check=False)


def _argv(process: Any) -> list[str]:
    with contextlib.suppress(nodes.psutil.Error):
        return list(process.cmdline())
    return []


def _env(process: Any) -> dict[str, str]:
    with contextlib.suppress(nodes.psutil.Error):
        return dict(process.environ())
    return {}


@contextlib.contextmanager
def cluster(kind: str, folder: Path) -> Any:
    """A cluster, and what the driver is asked besides."""
    cores = {"BILEVELBENCH_CORES": str(folder / "cores")}
    with nodes.nodes(folder, NODES) as own:
        if kind == "dask":
            with clusters.dask(folder, NODES, f"{nodes.NET}.1", own, {**DASK, **cores}) as (address, processes):
                yield Cluster(kind, folder, own, processes, cores), {"on": address}
            return
        prolog = folder / "prolog"
        prolog.write_text(f'#!/bin/sh\ncat "{folder}/clock-${{SLURMD_NODENAME#n}}"\n')
        prolog.chmod(0o755)
        for node in own:
            node.clock.write_text(f"export TMPDIR={node.disk}\n")
        more = f"TaskProlog={prolog}"
        with clusters.slurm(folder, NODES, f"{nodes.NET}.1", own, more) as (env, processes):
            on = {"on": "slurm", "jobs": NODES, "slurm": {"partition": "low"}}
            yield Cluster(kind, folder, own, processes, {**env, **cores}), on
