"""The same runs on real clusters of this machine, disturbed at random, and compared with what nobody disturbed.

    python -m tests.campaigns.machines dask|slurm [SEEDS [EACH [SEED [MINUTES [ALONE]]]]]

Four nodes (real Dask workers, or ``slurmd -N``), each with a network namespace, a disk of 8 MB and a clock of its own,
make 4 runs for each of SEEDS seeds; 50 of them are 200 runs. EACH times, at random moments and in random order, each of
these comes to pass: a worker is killed; a node is gone (its cable is pulled, then all on it dies); a worker is
preempted, with some seconds of grace and without; the scheduler is started again; the driver is killed and started
again; a second driver joins; a node's disk is full for a while; a node's clock is an hour off (``tests/clock_off.c``,
preloaded; files keep the times of the kernel, as those of a shared folder do). After MINUTES no more comes to pass, and
the runs that are left are made in peace.

What nobody disturbs is made into the folder ALONE, where one is named, and is there the next time. It needs root,
``ip``, a C compiler for the clocks, and for Slurm its packages (``apt-get install slurm-wlm munge``). It prints a line
of JSON: runs that are finished, damaged, not done, other than here alone, finished and then changed, and what was done.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bilevelbench as bb
from bilevelbench.store.journal import read_folder
from tests import clusters, nodes
from tests.disturbed import NODES, Cluster, cluster

SIBLING = "test_what_is_lost_or_damaged_is_made_again_twice"
COMMAND = "import sys, json, bilevelbench as bb; bb.run(**json.loads(sys.argv[1]))"
KINDS = (
    "worker killed", "node gone", "preempted with grace", "preempted without", "scheduler restarted", "driver killed",
    "two drivers", "disk full", "clock off",
)  # fmt: skip


SLOW = '''"""BOME that takes its time, and none of the processor's: a run is under way whenever something happens."""

import time

from bilevelbench import solver
from bilevelbench.solvers.bome import BOME


@solver("slow")
class Slow(BOME):
    """BOME."""

    def step(self, o, s):
        time.sleep(0.2)
        return BOME.step(self, o, s)
'''


def asked(seeds: int, slow: Path) -> dict[str, Any]:
    return {
        "problems": ["quadratic(d=4)", "quadratic(d=6)"], "solvers": [f"{slow}(T=1)", f"{slow}(T=10)"],
        "seeds": list(range(seeds)), "steps": 30, "progress": False,
    }  # fmt: skip


def rows(out: Path) -> dict[str, Any]:
    """The rows of each run, what depends on the clock left out."""
    kept = ("step", "calls", "rows", "passes", "metrics", "status", "fault", "reason")
    return {r.header["digest"]: [{k: row.get(k) for k in kept} for row in r.rows] for r in read_folder(out) if r.header}


def table(out: Path) -> Any:
    """The table of targets, without seconds and what is computed from them."""
    return bb.load(out).targets.drop(columns=["seconds", "grads"])


class Campaign:
    """One folder of runs, and those who have them made."""

    def __init__(self, made: Cluster, out: Path, request: dict[str, Any], rng: random.Random) -> None:
        self.cluster, self.out, self.rng = made, out, rng
        self.command = [sys.executable, "-c", COMMAND, json.dumps(request)]
        self.driver, self.other = self.start(), None
        self.seen: dict[str, str] = {}
        self.changed = 0

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env={**os.environ, **self.cluster.env})

    def finished(self) -> int:
        return len(list(self.out.glob("*.jsonl")))

    def look(self) -> None:
        """Whether what was finished is still what it was."""
        for path in self.out.glob("*.jsonl"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.changed += self.seen.setdefault(path.name, digest) != digest

    def wait(self, until: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.finished() < until and time.monotonic() < end:
            if self.driver.poll() is not None:
                assert self.driver.returncode == 0, "the driver has given up"
                return
            self.cluster.tend()
            time.sleep(0.2)

    def disturb(self, kind: str) -> None:
        k, made, rng = self.rng.randrange(NODES), self.cluster, self.rng
        if kind == "driver killed":
            self.driver.kill()
            self.driver.wait()
            self.driver = self.start()
        elif kind == "two drivers":
            if self.other is not None:
                self.other.kill()
                self.other.wait()
            self.other = self.start()
        elif kind == "scheduler restarted":
            made.scheduler_restarted()
        elif kind == "disk full":
            made.disk_full(k, rng.uniform(5, 15))
        elif kind == "clock off":
            made.clock_off(
                k,
                rng.choice((3600, -3600)) if nodes.off_clock(self.cluster.folder) and not made.nodes[k].seconds else 0,
            )
        elif kind.startswith("preempted"):
            made.preempted(k, rng.uniform(1, 4) if kind.endswith("grace") else 0.0)
        else:
            getattr(made, kind.replace(" ", "_"))(k)


def campaign(kind: str, seeds: int, each: int, seed: int, minutes: int, kept: str = "") -> dict[str, Any]:
    rng, begin, total = random.Random(seed), time.monotonic(), 4 * seeds
    with tempfile.TemporaryDirectory() as scratch:
        folder, out, alone = Path(scratch) / "cluster", Path(scratch) / "out", Path(kept or f"{scratch}/alone")
        folder.mkdir()
        (slow := Path(f"{kept or f'{scratch}/slow'}.py")).write_text(SLOW)  # where the next time finds it, too
        bb.run(**asked(seeds, slow), out=alone, jobs=12)  # for they sleep
        events = [kind for _ in range(each) for kind in rng.sample(KINDS, len(KINDS))]
        moments, done = sorted(rng.uniform(0, 0.95 * total) for _ in events), Counter[str]()
        with cluster(kind, folder) as (made, on):
            one = Campaign(made, out, {**asked(seeds, slow), "out": str(out), **on}, rng)
            end = time.monotonic() + 60 * minutes
            for moment, event in zip(moments, events, strict=True):
                one.wait(int(moment), 300)
                if one.driver.poll() is not None or time.monotonic() > end:
                    break
                one.look()
                one.disturb(event)
                done[event] += 1
                print(f"[{sum(done.values())}/{len(events)}] {event}, {one.finished()} of {total}", file=sys.stderr)
            one.wait(total + 1, 3600)
            code = one.driver.wait(60)
            if one.other is not None:
                one.other.wait(600)
            one.look()
        records, wanted, found = read_folder(out), rows(alone), rows(out)
        for record in records:
            if record.status != "done" or record.troubles:
                print(record.path.name, record.status, record.rows[-1:], record.troubles, file=sys.stderr)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "kind": kind, "code": code, "runs": total, "finished": len(found), "events": dict(done),
            "damaged": sum(bool(r.troubles) for r in records), "not_done": sum(r.status != "done" for r in records),
            "other": sum(found.get(digest) != own for digest, own in wanted.items()), "changed": one.changed,
            "table": bool(table(out).equals(table(alone))), "twice": len(records) - len(found),
            "cpu": round(spent.ru_utime + spent.ru_stime, 1), "wall": round(time.monotonic() - begin, 1),
        }  # fmt: skip


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:6]
    seeds, each, seed, minutes = [*map(int, numbers), *[50, 10, 0, 600][len(numbers) :]]
    if why := nodes.lacking() or (clusters.lacking() if kind == "slurm" else ""):
        sys.exit(why)
    figures = campaign(kind, seeds, each, seed, minutes, *sys.argv[6:])
    print(json.dumps(figures))
    wrong = [figures[name] for name in ("damaged", "not_done", "other", "changed", "code")]
    sys.exit(bool(any(wrong) or figures["finished"] != figures["runs"] or not figures["table"]))
