"""Kills the real command, or its processes, at random moments, repeats it, and compares with what nobody disturbed.

    python -m tests.campaigns.kills ROUNDS [SEED]

A round starts the command on a folder of its own and sends, at a random moment, SIGKILL, SIGTERM or SIGSTOP to the
driver, its fork server or a run; a stopped driver is let go on after another command has taken over. Then the command
is repeated. No finished run may be lost or changed, no final status may be false, and the rows must be those of the
undisturbed folder, seconds aside.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bilevelbench.store.journal import read_folder

SIBLING = "test_an_interrupted_command_is_resumed_by_repeating_it"
RUNS = "run -p quadratic(d=5) -s first_order -s bome -s soba --steps 60"


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "bilevelbench", *RUNS.split(), "--out", str(out)]


def rows(out: Path) -> dict[str, object]:
    """The rows of each run, what depends on the clock left out."""
    kept = ("step", "calls", "rows", "metrics", "status")
    return {
        record.header["digest"]: (record.status, [{k: row[k] for k in kept} for row in record.rows])
        for record in read_folder(out)
        if record.header
    }


def family(driver: int) -> dict[str, list[int]]:
    """The processes of a command by what they are."""
    found: dict[str, list[int]] = {"driver": [driver], "server": [], "run": []}
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            text = file.read_text()
            parents[int(file.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found["server"] = [pid for pid, parent in parents.items() if parent == driver]
    found["run"] = [pid for pid, parent in parents.items() if parent in found["server"]]
    return found


def disturbed(out: Path, rng: random.Random, longest: float) -> str:
    """One round: the command, disturbed once and then repeated. In words, what was done."""
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moment = rng.uniform(0.0, longest)
    end = time.monotonic() + moment
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    before = {p: p.read_bytes() for p in out.glob("*.jsonl")} if out.exists() else {}
    who, how = rng.choice(("driver", "server", "run")), rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
    victims = family(process.pid)[who] if process.poll() is None else []
    for victim in victims[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, how)
    stopped = how == signal.SIGSTOP and bool(victims)
    if stopped and who != "driver":  # nobody takes over from a run that stands still: it goes on
        time.sleep(0.3)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victims[0], signal.SIGCONT)
    if not (stopped and who == "driver"):
        process.wait(timeout=900)
    again = subprocess.run(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=900)
    if stopped and who == "driver":
        process.send_signal(signal.SIGCONT)
        process.wait(timeout=900)
    said = f"{how.name} of the {who} after {moment:.1f} s"
    assert again.returncode == 0, f"{said}: {again.stderr}"
    for path, content in before.items():
        assert path.read_bytes() == content, f"{said}: {path.name} was finished and has changed"
    return said


def main(rounds: int, seed: int = 0) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        calm = Path(folder) / "calm"
        begin = time.monotonic()
        subprocess.run(command(calm), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        longest, wanted = time.monotonic() - begin, rows(calm)
        for k in range(rounds):
            out = Path(folder) / f"round-{k}"
            said = disturbed(out, rng, longest)
            assert rows(out) == wanted, f"{said}: other rows than undisturbed"
            left = [path.name for path in out.iterdir() if path.name.startswith(".") or path.suffix == ".part"]
            assert not left, f"{said}: {left} are left"
            print(f"[{k + 1}/{rounds}] {said}: as undisturbed", file=sys.stderr, flush=True)
    print(f"{rounds} rounds, seed {seed}: 0 finished runs lost or changed, 0 false statuses, tables identical")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
