"""Command lines and suite files as people mistype them: each is refused in one sentence, or accepted.

    python -m tests.campaigns.requests 3000 [SEED]

makes so many by changing valid ones (letters, words, values, lines), a third of them suite files, and gives each to the
command, in a process of its own. Refused means: exit code 2, one sentence, no traceback, nothing written. What is
accepted is stopped as soon as it begins to measure, but for one in ``WHOLE``, which is let to its end. Prints one line
with the figures, and what is not so.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bilevelbench.run import child
from tests.forked import Forks

SIBLING = "test_mistyped_requests"

LIMIT = 120.0  # seconds until a request is refused or accepted; usually it takes a few hundredths
WHOLE = 25
WORDS = (
    "", " ", "-", "--", "-1", "0", "1", "007", "1e3", "1e999", "nan", "-inf", "0x10", "1_000", "9" * 40, "1,2",
    "3-1", "0-", "0-4", "None", "True", "[]", "a" * 5000, "ü", "٣", "\u202e", "\n", "*", "..", "/", "/dev/null",
    "~", "a.py", "a.toml", "pyproject.toml", "tests/broken_contracts.py", "solvers/bome.py", "solvers/bome.py:bom",
    "bome", "bone", "quadratic", "quadratic(", "quadratic()", "quadratic(d)", "quadratic(d=0)", "quadratic(d=-3)",
    "quadratic(d=2.5)", "quadratic(d='x')", "quadratic(d=None)", "quadratic(d=10**9)", "quadratic(d=200000)",
    "quadratic(kappa=nan)", "quadratic(kappa=1e400)", "quadratic(kapa=3)", "quadratic(d=3,d=4)", "quadratic(**{})",
    "quadratic(d=__import__('os'))", "coreset(y0=[0])", "coreset(y0=[0,3,1])", "coreset(y0='a')",
    "bolib(name='nobody')", "bome(lr=-1)", "bome(lr='x')", "bome(lr=[1])", "bome(T=0)", "bome(T=1.5)",
    "bome(T=True)", "bome(lr=0.1))", "bome;aid_cg", "bome,aid_cg", "bome(lr=0.1", "(lr=0.1)", "((((((((", "itd",
    "smoke", "smok", "default", "cuda", "cuda:9", "cpu", "mps", "float64", "float16", "eager", "eagre", "compiled",
    "batched", "jax", "--seeds", "--steps", "--step", "--stpes", "--device", "--dtype", "--engine", "--out",
    "--jobs", "--help", "-p", "-s", "-x", "--version", "--here", "--iterates", "--batch-seeds", "--baseline",
    "run", "rnu", "report", "list", "check", "gate", "data",
)  # fmt: skip
LINES = [
    "run -p quadratic(kappa=10) -s bome(lr=0.01,T=2) --steps 3",
    "run -p quadratic -p coreset(y0=[0,3]) -s bome -s aid_cg --seeds 0-1 --calls 40",
    "run -p quadratic -s solvers/bome.py:bome --seconds 0.1 --device cpu --dtype float32 --engine functional",
    "run -p coreset -s itd --steps 2 --threads 1 --jobs 2 --timeout 5 --patience 30 --here --iterates",
    "run smoke --seeds 0 --steps 1",
    "run suite.toml --steps 1",
    "run -p min_norm -s soba --steps 2 --batch-seeds --seeds 0,2",
    "report results --out page",
    "report results results",
    "list problems", "list solvers", "list bome", "list quadratic", "list suites",
    "data list", "data verify",
    "check bom", "check quadratic(d=0)",
    "gate bom --baseline tests/perf/baseline.json", "gate bome --baseline none.json",
]  # fmt: skip
SUITE = """about = "two blocks"

[[block]]
problems = ["quadratic(kappa=10)", "coreset(y0=[0,3])"]
solvers = ["bome(lr=0.01,T=2)", "aid_cg"]
seeds = "0-1"
steps = 3
dtype = "float64"

[[block]]
problems = ["min_norm"]
solvers = ["itd(lr=0.1)"]
calls = 20
threads = 1
iterates = true
engine = "eager"
"""


def letters(rng: random.Random, text: str) -> str:
    """One to three letters changed, left out, doubled or put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        k = rng.randrange(len(text) + 1)
        new = rng.choice("()[]{}=,:'\"#-_ .\\/0129ax\t\u00e9*$")
        text = rng.choice((text[:k] + new + text[k:], text[:k] + new + text[k + 1 :], text[:k] + text[k + 1 :]))
    return text


def words(rng: random.Random, given: list[str]) -> list[str]:
    """One or two words replaced, left out, doubled, exchanged or put in."""
    given = list(given)
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(given)) if given else 0
        how = rng.randrange(6)
        if how == 0:
            given[k : k + 1] = [rng.choice(WORDS)]
        elif how == 1:
            given[k : k + 1] = []
        elif how == 2:
            given[k:k] = given[k : k + 1]
        elif how == 3:
            given[k:k] = [rng.choice(WORDS)]
        elif how == 4 and given:
            j = rng.randrange(len(given))
            given[j], given[k] = given[k], given[j]
        else:
            given[k : k + 1] = [letters(rng, word) for word in given[k : k + 1]]
    return [word.replace("\0", "") for word in given]


def lines(rng: random.Random, text: str) -> str:
    """A suite file with letters, a value or a line changed."""
    rows = text.splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(rows))
        name, equals, _value = rows[k].partition("=")
        word = rng.choice(WORDS)
        rows[k] = rng.choice((
            letters(rng, rows[k]), "", rows[k] + "\n" + rows[k], f"{name}{equals} {word}", f'{name}{equals} ["{word}"]',
            f'{name}{equals} "{word}"', f"{letters(rng, name)}{equals}{_value}", rng.choice(rows),
        ))  # fmt: skip
    return "\n".join(rows)


def begun(folder: Path) -> str:
    """What a request has said so far."""
    return (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""


def ask(arguments: list[str], folder: Path, whole: bool) -> tuple[str, str]:
    """Give a request to the command: (refused, accepted, ended or what is wrong; what it said)."""
    process = os.fork()
    if process == 0:
        os.setsid()
        os.chdir(folder)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        code = 70
        try:
            from bilevelbench.cli import main

            child.processes = Forks
            sys.argv = ["bilevelbench", *arguments]
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 71
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end, status = time.monotonic() + LIMIT, None
    while status is None and time.monotonic() < end:
        ended, found = os.waitpid(process, os.WNOHANG)
        status = found if ended else None
        if status is None and not whole and " into results" in begun(folder):
            break
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
    said = begun(folder)
    if "Traceback" in said:
        return "a traceback", said
    if status is None:
        return ("accepted" if " into " in said or arguments[:1] in (["check"], ["gate"]) else "a hang"), said
    code = os.waitstatus_to_exitcode(status)
    if code == 2:
        sentence = said.strip()
        if not sentence.startswith("error: ") or "\n" in sentence or len(sentence) > 2000:
            return "refused in other than one sentence", said
        return "refused", said
    return ("ended" if code in (0, 1) else f"exit code {code}"), said


def request(rng: random.Random, folder: Path) -> list[str]:
    """A mistyped request. Its files are in the folder."""
    (folder / "suite.toml").write_text(SUITE)
    if rng.random() < 1 / 3:
        (folder / "suite.toml").write_text(lines(rng, SUITE))
        return ["run", "suite.toml"]
    return words(rng, rng.choice(LINES).split(" "))


def main(count: int, seed: int = 0) -> None:
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    for name in ("bilevelbench.run.worker", "bilevelbench.run.names", "bilevelbench.report.page", "bilevelbench.cli",
                 "bilevelbench.contract.gate", "bilevelbench.catalogue"):  # fmt: skip
        importlib.import_module(name)
    from bilevelbench.core.registry import PROBLEMS, SOLVERS

    SOLVERS.load_own()
    PROBLEMS.load_own()
    rng, outcomes = random.Random(seed), Counter[str]()
    for k in range(count):
        with tempfile.TemporaryDirectory(prefix="requests-") as place:
            folder = Path(place)
            for name in ("solvers", "tests", "pyproject.toml"):
                (folder / name).symlink_to(Path(__file__).parents[2] / name)
            arguments = request(rng, folder)
            outcome, said = ask(arguments, folder, whole=k % WHOLE == 0)
            outcomes[outcome] += 1
            if outcome not in ("refused", "accepted", "ended"):
                suite = (folder / "suite.toml").read_text() if "suite.toml" in arguments else ""
                print(f"{outcome}: {shlex.join(arguments)[:300]}\n{suite}{said[-1500:]}", flush=True)
        if (k + 1) % 100 == 0:
            print(f"[{k + 1}/{count}] {dict(outcomes)}", file=sys.stderr, flush=True)
    wrong = sum(n for outcome, n in outcomes.items() if outcome not in ("refused", "accepted", "ended"))
    print(f"{count} requests, seed {seed}: {dict(outcomes)}; {wrong} not as they should be")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
