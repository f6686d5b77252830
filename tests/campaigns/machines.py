"""The same runs on real clusters of this machine, disturbed at random, and compared with what nobody disturbed.

    python -m tests.campaigns.machines dask|slurm [SEEDS [KILLS [SEED]]]

Four nodes (real Dask workers, or ``slurmd -N``) make 4 runs for each of SEEDS seeds; 50 of them are 200 runs. KILLS
times something is killed at a random moment: a node, the scheduler (Dask), a worker preempted by another partition
(Slurm), or the driver, which is then started again. It prints one line of JSON: runs that are finished, damaged,
charged to somebody, other than here alone, and the CPU seconds and wall seconds that it took.

So far it has been run at a small size alone, ``dask 2 2 1`` on two busy cores: 8 of 8 runs finished with 2 kills, 0
damaged, charged or other.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bilevelbench as bb
from bilevelbench.store.journal import read_folder
from tests import clusters

SIBLING = "test_what_is_lost_or_damaged_is_made_again_twice"
NODES = 4
COMMAND = "import sys, json, bilevelbench as bb; bb.run(**json.loads(sys.argv[1]))"


def asked(seeds: int) -> dict[str, Any]:
    return {
        "problems": ["quadratic(d=4)", "quadratic(d=6)"], "solvers": ["bome", "soba"], "seeds": list(range(seeds)),
        "steps": 30, "progress": False,
    }  # fmt: skip


def rows(out: Path) -> dict[str, Any]:
    """The rows of each run, what depends on the clock left out."""
    kept = ("step", "calls", "rows", "metrics", "status")
    return {r.header["digest"]: [{k: row.get(k) for k in kept} for row in r.rows] for r in read_folder(out) if r.header}


def disturb(kind: str, processes: clusters.Started, env: dict[str, str], rng: random.Random) -> str:
    """Kill something other than the driver, and start it again; what it was."""
    name = rng.choice([name for name in processes.running if name.startswith(("worker", "n")) or name == "scheduler"])
    if kind == "slurm" and rng.random() < 0.5:
        node = f"n{rng.randrange(NODES)}"
        urgent = ["sbatch", "-p", "high", "-w", node, "--output=/dev/null", "--wrap=sleep 3"]
        subprocess.run(urgent, env={**os.environ, **env}, capture_output=True, timeout=60)
        return f"preempted on {node}"
    processes.kill(name)
    if name == "scheduler":  # workers leave with it, with exit code 0
        time.sleep(2)
    processes.again(name)
    for other, process in list(processes.running.items()):
        if process.poll() is not None:
            processes.again(other)
    return name


def campaign(kind: str, seeds: int, kills: int, seed: int) -> dict[str, Any]:
    rng, begin = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder, out, alone = Path(scratch) / "cluster", Path(scratch) / "out", Path(scratch) / "alone"
        folder.mkdir()
        bb.run(**asked(seeds), out=alone)
        local = resource.getrusage(resource.RUSAGE_CHILDREN)
        with getattr(clusters, kind)(folder, NODES) as (where, processes):
            env = where if kind == "slurm" else {}
            on = {"on": "slurm", "jobs": NODES, "slurm": {"partition": "low"}} if kind == "slurm" else {"on": where}
            command = [sys.executable, "-c", COMMAND, json.dumps({**asked(seeds), "out": str(out), **on})]
            total, done = 4 * seeds, []
            driver = subprocess.Popen(command, env={**os.environ, **env})
            for k in range(kills):
                while driver.poll() is None and len(list(out.glob("*.jsonl"))) < total * (k + rng.random()) / kills:
                    time.sleep(0.1)
                if k % 3 == 2:
                    driver.kill()
                    driver.wait()
                    done.append("driver")
                    driver = subprocess.Popen(command, env={**os.environ, **env})
                else:
                    done.append(disturb(kind, processes, env, rng))
                print(f"[{k + 1}/{kills}] {done[-1]}, {len(list(out.glob('*.jsonl')))} of {total}", file=sys.stderr)
            code = driver.wait(3600)
        records, wanted = read_folder(out), rows(alone)
        found = rows(out)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "kind": kind, "code": code, "runs": total, "finished": len(found), "kills": len(done),
            "damaged": sum(bool(r.troubles) for r in records), "charged": sum(r.status != "done" for r in records),
            "other": sum(found.get(digest) != own for digest, own in wanted.items()),
            "cpu_alone": round(local.ru_utime + local.ru_stime, 1),
            "cpu_cluster": round(spent.ru_utime + spent.ru_stime - local.ru_utime - local.ru_stime, 1),
            "wall": round(time.monotonic() - begin, 1),
        }  # fmt: skip


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    seeds, kills, seed = [*map(int, numbers), *[50, 10, 0][len(numbers) :]]
    figures = campaign(kind, seeds, kills, seed)
    print(json.dumps(figures))
    wrong = figures["damaged"] or figures["charged"] or figures["other"] or figures["code"]
    sys.exit(bool(wrong or figures["finished"] != figures["runs"]))
