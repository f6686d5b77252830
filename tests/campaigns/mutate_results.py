"""Result files as accidents and strangers leave them, read beside a good one.

    python -m tests.campaigns.mutate_results 10000

mutates real files in every way of ``MUTATIONS`` and reads each: no traceback, no hang, the good run shown, every line
that was not touched kept. Of every hundred a whole report is written; ``sentences`` counts those in which a sentence
stands for a part or a figure. Prints one line with the figures.
"""

from __future__ import annotations

import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bilevelbench.report.page import write
from bilevelbench.store.frame import load
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import End, Header, Row, RunKey

SIBLING = "test_mutated_files"

SOURCES = sorted((Path(__file__).parents[1] / "frozen" / "schema1").glob("*.jsonl"))
LIMIT = 20  # seconds for one file; it takes milliseconds
BATCH = 100  # files in a report
MOST_SAID = 20  # faults of a kind that are printed
VALUES = (
    "null",
    "true",
    "-1",
    "1e308",
    "1e999",
    "9" * 400,
    '""',
    '"x"',
    "[]",
    "{}",
    '"\\udc80"',
    '"' + "w" * 10**5 + '"',
)


def good(folder: Path, name: str = "good") -> Path:
    """A run that nothing is done to."""
    key = RunKey(name, 1, name, 0, "cpu", "float64", "eager", 1, 2, None, None, False, "c")
    with Journal(folder / f"{key.stem}-00000000.jsonl") as journal:
        journal.begin(Header(key, {"given": name}, {"given": name}, {"cpu": "made up", "cores": 2}))
        for step in range(3):
            gap, status = 10.0**-step, "done" if step == 2 else "running"
            journal.append(Row(step, step, step, {"dg_y": step}, step, {}, {"phi_gap": gap, "phi": gap}, status))
        journal.end(End())
    return journal.path


def _pick(rng: random.Random, lines: list[bytes]) -> int:
    return rng.randrange(len(lines))


def flip(rng: random.Random, lines: list[bytes]) -> set[int]:
    """Some bits of one line."""
    k = _pick(rng, lines)
    line = bytearray(lines[k])
    for _ in range(rng.choice((1, 1, 3))):
        line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
    lines[k] = bytes(line).replace(b"\n", b"?")
    return {k}


def cut(rng: random.Random, lines: list[bytes]) -> set[int]:
    """The end of one line, as where a disk was full."""
    k = _pick(rng, lines)
    lines[k] = lines[k][: rng.randrange(len(lines[k]))]
    return {k}


def swap(rng: random.Random, lines: list[bytes]) -> set[int]:
    """Two lines."""
    i, j = _pick(rng, lines), _pick(rng, lines)
    lines[i], lines[j] = lines[j], lines[i]
    return {i, j}


def drop(rng: random.Random, lines: list[bytes]) -> set[int]:
    """A line."""
    k = _pick(rng, lines)
    lines[k] = b""
    return {k}


def double(rng: random.Random, lines: list[bytes]) -> set[int]:
    """A line, at its place or at another."""
    k = _pick(rng, lines)
    lines.insert(rng.choice((k, _pick(rng, lines) + 1)), lines[k])
    return {k}


def value(rng: random.Random, lines: list[bytes]) -> set[int]:
    """A value by one of another type or size."""
    k = _pick(rng, lines)
    places = list(re.finditer(rb'(?<=:)(-?[0-9][0-9.e+-]*|"[^"]*"|null|true|false)', lines[k]))
    if places:
        place = rng.choice(places)
        lines[k] = lines[k][: place.start()] + rng.choice(VALUES).encode() + lines[k][place.end() :]
    return {k}


def name(rng: random.Random, lines: list[bytes]) -> set[int]:
    """The name of a field."""
    k = _pick(rng, lines)
    places = list(re.finditer(rb'"[a-z_]+"(?=:)', lines[k]))
    if places:
        place, other = (
            rng.choice(places),
            rng.choice((b'"step"', b'"kind"', b'"run"', b'"$"', b'"' + b"n" * 9999 + b'"')),
        )
        lines[k] = lines[k][: place.start()] + other + lines[k][place.end() :]
    return {k}


def nest(rng: random.Random, lines: list[bytes]) -> set[int]:
    """Lists or dictionaries in each other, in a value or in the place of a line."""
    k, deep = _pick(rng, lines), rng.choice((5, 50, 5000, 200_000))
    tower = rng.choice((b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * deep))
    lines[k] = rng.choice(
        (tower, lines[k].replace(b"{}", tower, 1), lines[k].replace(b":", b":" + tower + b',"z":', 1))
    )
    return {k}


def junk(rng: random.Random, lines: list[bytes]) -> set[int]:
    """Bytes between two lines, a few or many."""
    k = _pick(rng, lines)
    text = rng.choice(
        (rng.randbytes(40), b"\0" * 9, b"\xef\xbb\xbf", b"{}", b"\n" * 10_000, b"x" * 10**6, b"x\n" * 10_000)
    )
    lines.insert(k, text)
    return {0} if k == 0 else set()


def ends(rng: random.Random, lines: list[bytes]) -> set[int]:
    """Line ends of another system."""
    lines[:] = [line + b"\r" for line in lines]
    return set()


MUTATIONS: tuple[Callable[[random.Random, list[bytes]], set[int]], ...] = (
    flip, flip, cut, swap, drop, double, value, value, name, nest, junk, ends,
)  # fmt: skip


def mutate(rng: random.Random, content: bytes) -> tuple[str, bytes, int]:
    """How it was mutated, the result, and how many lines of rows are as they were (0 where the header is not)."""
    lines = content.rstrip(b"\n").split(b"\n")
    rows = len([line for line in lines if line.startswith(b'{"kind":"row"')])
    mutation = rng.choice(MUTATIONS)
    touched = mutation(rng, lines)
    return mutation.__name__, b"\n".join(lines) + b"\n", 0 if 0 in touched else rows - len(touched)


def whole_rows(content: bytes) -> int:
    """How many rows a reader finds in a file that nothing was done to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.jsonl"
        path.write_bytes(content)
        return len(read(path).rows)


def _too_long(*_: object) -> None:
    raise TimeoutError("it hangs")


def campaign(count: int, seed: int, every: int = 500) -> dict[str, int]:
    """Mutate and read so many files. What went wrong is printed and counted."""
    rng = random.Random(seed)
    found = dict.fromkeys(("files", "tracebacks", "hangs", "good_missing", "lines_lost", "reports", "sentences"), 0)
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as place:
        alone, together, out = (Path(place) / name for name in ("alone", "together", "out"))
        for folder in (alone, together):
            folder.mkdir()
            good(folder)
        sources = [path.read_bytes() for path in (*SOURCES, good(Path(place), "source"))]
        torn = {content: content.count(b'{"kind":"row"') - whole_rows(content) for content in sources}
        for number in range(1, count + 1):
            content = rng.choice(sources)
            how, data, least = mutate(rng, content)
            path = alone / f"mutant{number}.jsonl"
            path.write_bytes(data)
            _judge(
                found, f"{how}, seed {seed}, file {number}", LIMIT, lambda p=path, n=least - torn[content]: _read(p, n)
            )
            path.rename(together / path.name)
            if number % BATCH == 0 or number == count:
                _judge(found, f"a report up to file {number}, {seed=}", 30 * LIMIT, lambda: _report(together, out))
                found["reports"] += 1
                for mutant in together.glob("mutant*"):
                    mutant.unlink()
            found["files"] += 1
            if number % every == 0:
                print(f"{number} of {count}: {found}", file=sys.stderr, flush=True)
    return found


def _read(path: Path, least: int) -> str:
    record, data = read(path), load(path.parent)
    if "good" not in set(data.runs["problem"]):
        return "good_missing"
    return "lines_lost" if len(record.rows) < least else ""


def _report(folder: Path, out: Path) -> str:
    report = write(folder, out)
    page = report.path.read_text(encoding="utf-8")
    if "good" not in set(report.leaders["solver"]) or ">good<" not in page:
        return "good_missing"
    said = [trouble for trouble in report.troubles if "cannot be made" in trouble]
    said += re.findall(r"This figure cannot be drawn[^<]*", page)
    print(*said, sep="\n", end="\n" if said else "", file=sys.stderr)
    return "sentences" if said else ""


def _judge(found: dict[str, int], what: str, limit: int, judged: Callable[[], str]) -> None:
    signal.alarm(limit)
    try:
        wrong = judged()
    except TimeoutError:
        wrong = "hangs"
    except Exception as error:
        wrong = "tracebacks"
        what = f"{what}: {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    if wrong:
        found[wrong] += 1
        if found[wrong] <= MOST_SAID:
            print(f"{wrong}: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    begin = time.process_time()
    figures = campaign(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(", ".join(f"{n} {what}" for what, n in figures.items()) + f", {time.process_time() - begin:.0f} CPU s")
    sys.exit(any(n for what, n in figures.items() if what not in ("files", "reports", "sentences")))
