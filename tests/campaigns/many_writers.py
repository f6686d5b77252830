"""Several drivers on one results folder, some of them killed or stopped in the middle.

    python -m tests.campaigns.many_writers 100 [FIRST]

makes so many rounds of 8 processes that want the same runs, and prints one line with the figures: files that are
damaged, runs that are missing, changed or made twice, of calm rounds and of those in which processes are disturbed.
A round's number is its seed; FIRST is that of the first, 0 unless said.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from bilevelbench.store.claims import Claims
from bilevelbench.store.files import final, final_name, finals
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import End, Header, Row, RunKey

SIBLING = "test_writers_on_one_folder"

WRITERS, RUNS, ROWS = 8, 12, 6
BEAT, PATIENCE = 0.1, 3.0  # seconds: a twentieth of what is usual
PLACE = "0" * 8
LIMIT = 120  # seconds for a round


def key(number: int) -> RunKey:
    """One of the runs that all want."""
    return RunKey("p", 1, f"s{number}", 0, "cpu", "float64", "eager", 1, ROWS, None, None, False, "c")


def work(folder: Path, seed: int, log: Path) -> None:
    """A driver: make what is not made, until all is there."""
    rng = random.Random(seed)
    wanted = [key(number) for number in range(RUNS)]
    rng.shuffle(wanted)
    with Claims(folder, BEAT, PATIENCE) as claims:
        while todo := [k for k in wanted if final(folder, k, PLACE) is None]:
            for k in todo:
                claim = claims.take(k.stem)
                if claim is None:
                    continue
                if final(folder, k, PLACE) is None:
                    name = final_name(k, PLACE)
                    _make(k, claim.part(name), rng)
                    won = claim.publish(name)
                    with log.open("a") as file:
                        file.write(json.dumps([k.stem, won]) + "\n")
                claim.release()
            time.sleep(0.01)


def _make(made: RunKey, part: Path, rng: random.Random) -> None:
    with Journal(part) as journal:
        journal.begin(Header(made, {"given": "p"}, {"given": made.solver}, {"pid": os.getpid()}))
        for step in range(ROWS):
            time.sleep(rng.random() * 0.004)
            row = Row(step, 0.1 * step, 0.1 * step, {"dg_y": step}, step, {}, {"phi": 1.0})
            row.status = "done" if step == ROWS - 1 else "running"
            journal.append(row)
        journal.end(End())


def round_(seed: int, disturb: bool) -> dict[str, int]:
    """One round; where ``disturb``, processes are killed, and stopped for longer than the others' patience."""
    rng = random.Random(seed)
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "results"
        folder.mkdir()
        logs = [Path(place) / f"{number}.log" for number in range(WRITERS)]
        drivers = [context.Process(target=work, args=(folder, seed * 100 + n, log)) for n, log in enumerate(logs)]
        for driver in drivers:
            driver.start()
        late = []
        if disturb:
            for victim in rng.sample(drivers, 3):
                time.sleep(rng.random() * 0.1)
                how = rng.choice((signal.SIGKILL, signal.SIGSTOP))
                os.kill(victim.pid or 0, how)
                if how == signal.SIGSTOP:
                    late.append(victim)
        for driver in drivers:
            if driver not in late:
                driver.join(LIMIT)
        before = {path.name: path.read_bytes() for paths in finals(folder).values() for path in paths}
        for driver in late:
            os.kill(driver.pid or 0, signal.SIGCONT)
            driver.join(LIMIT)
        hung = [driver for driver in drivers if driver.is_alive()]
        for driver in hung:
            driver.kill()
        return _judged(folder, before, logs) | {"hung": len(hung)}


def _judged(folder: Path, before: dict[str, bytes], logs: list[Path]) -> dict[str, int]:
    records = [read(path) for path in sorted(folder.glob("*.jsonl"))]
    made = [json.loads(line) for log in logs if log.exists() for line in log.read_text().splitlines()]
    whole = [r for r in records if not r.troubles and r.status == "done" and len(r.rows) == ROWS and r.end]
    return {
        "runs": RUNS,
        "damaged": len(records) - len(whole),
        "missing": RUNS - len(whole),
        "changed": sum((folder / name).read_bytes() != content for name, content in before.items()),
        "twice": len(made) - len({stem for stem, _ in made}),
        "left": len(list(folder.glob("*.part"))),
    }


def campaign(rounds: int, first: int = 0) -> dict[str, dict[str, int]]:
    """So many rounds, every second one disturbed; sums over the rounds of each kind."""
    sums: dict[str, dict[str, int]] = {"calm": {}, "disturbed": {}}
    for number in range(first, first + rounds):
        kind = "disturbed" if number % 2 else "calm"
        for what, n in round_(number, kind == "disturbed").items():
            sums[kind][what] = sums[kind].get(what, 0) + n
        if (number + 1 - first) % 10 == 0:
            print(f"{number + 1 - first} of {rounds}: {sums}", file=sys.stderr, flush=True)
    return sums


if __name__ == "__main__":
    figures = campaign(*map(int, sys.argv[1:] or ["100"]))
    print(json.dumps(figures))
    wrong = ("damaged", "missing", "changed", "hung", "left")
    twice = figures["calm"].get("twice", 0) > 0.01 * figures["calm"].get("runs", 0)
    sys.exit(twice or any(sums.get(what, 0) for sums in figures.values() for what in wrong))
