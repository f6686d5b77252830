"""Runs made by Slurm: an array of workers, each of which joins the results folder. No further package is needed.

The folder has to be shared by the nodes. A worker that is killed or preempted leaves its claim, which others see to be
dead; Slurm requeues the worker. Where an array ends and leaves runs, another one is submitted.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bilevelbench.core.errors import RequestError
from bilevelbench.store import files
from bilevelbench.store.journal import read

from ..job import Job
from . import plan

LOOK = 2.0  # seconds between two looks at the folder
IDLE = 20.0  # times as long between two looks as a look takes
ASK = 20.0  # and between two questions to the scheduler
ARRAYS = 3  # that in turn may end without a run, before that is said
NAME = re.compile("[a-z][a-z-]*")


def options(texts: list[str] | tuple[str, ...]) -> dict[str, str]:
    """``partition=short,time=2:00:00`` as a dictionary of options of sbatch."""
    found: dict[str, str] = {}
    for one in (part for text in texts for part in text.split(",")):
        name, _, value = one.partition("=")
        if not NAME.fullmatch(name.strip()) or not value.strip() or "\n" in value:
            raise RequestError(f"slurm {one!r} is not valid; it takes NAME=VALUE, such as partition=short,time=2:00:00")
        found[name.strip()] = value.strip()
    return found


def script(out: Path, workers: int, options: Mapping[str, str], patience: float) -> str:
    """The script of an array of workers."""
    worker = [sys.executable, "-m", "bilevelbench", "run", "--join", str(out), "--patience", f"{patience:g}"]
    logs = str(out / "slurm-%A_%a.log").replace('"', "")
    asked = {"job-name": "bilevelbench", "array": f"0-{workers - 1}", "output": f'"{logs}"', "open-mode": "append",
             **options}  # fmt: skip
    lines = ["#!/bin/sh", *(f"#SBATCH --{name}={value}" for name, value in asked.items()), "#SBATCH --requeue"]
    return "\n".join([*lines, f"exec {shlex.join(worker)}", ""])  # exec: a signal of Slurm's reaches the worker


class Slurm:
    """So many workers at a time, with options of sbatch."""

    def __init__(self, workers: int, options: Mapping[str, str], patience: float) -> None:
        self._workers, self._options, self._patience = workers, options, patience

    def make(
        self, out: Path, jobs: list[Job], started: Callable[[Job], None], finished: Callable[[Job, str], None]
    ) -> None:
        """Have the runs made into a folder, and wait for them. Interrupting cancels the array."""
        if not jobs:
            return
        out = out.resolve()
        plan.write(out, jobs)
        waiting, idle = {job.key.stem: job for job in jobs}, 0
        while waiting:
            before, array = len(waiting), self._submit(out, min(self._workers, len(waiting)))
            try:
                self._follow(out, array, waiting, finished)
            finally:
                if waiting:
                    _run("scancel", array)
            idle = idle + 1 if len(waiting) == before else 0
            if idle == ARRAYS:
                raise RequestError(f"{ARRAYS} Slurm arrays ended without a run, see {out / f'slurm-{array}_0.log'}")

    def _submit(self, out: Path, workers: int) -> str:
        done = _run("sbatch", "--parsable", given=script(out, workers, self._options, self._patience))
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RequestError(f"sbatch refused the array: {said}; nothing was started")
        return done.stdout.strip().partition(";")[0]

    def _follow(self, out: Path, array: str, waiting: dict[str, Job], finished: Callable[[Job, str], None]) -> None:
        """Tell of the runs as they are finished, until all are, or the array has ended."""
        asked = time.monotonic()
        while True:
            over = False
            if time.monotonic() > asked + ASK:
                asked, done = time.monotonic(), _run("squeue", "--noheader", "--jobs", array)
                over = not done.stdout.strip() and (done.returncode == 0 or "Invalid job id" in done.stderr)
            begin, there = time.process_time(), files.finals(out)
            for stem in [stem for stem in waiting if stem in there]:
                if waiting[stem].satisfied():
                    job = waiting.pop(stem)
                    finished(job, read(there[stem][0]).status)
            if over or not waiting:
                return
            time.sleep(max(LOOK, IDLE * (time.process_time() - begin)))  # of a large folder a look takes long


def _run(*command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise RequestError(
            f"on slurm needs the command {command[0]}, which is not here; run on a node that has it"
        ) from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer for two minutes")
