"""The references that come with the package, searched for anew or for the first time.

    OMP_NUM_THREADS=1 nice -n 10 python -m tests.campaigns.references [SEEDS] [PROBLEM...]

SEEDS such as 0-4 (0-9); PROBLEMs, or all of ``BUDGETS``. What the file has already is left, if its problem's version is
the same and it was searched for with as large a budget; of two searches the better one is kept. The file is written
after each search, so the command can be ended and repeated. $BILEVELBENCH_DATA is needed for svm.
OMP_NUM_THREADS=1, because a fork has none of the threads of its parent.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from bilevelbench.api.reference import each
from bilevelbench.core.registry import PROBLEMS
from bilevelbench.core.resolve import resolve
from bilevelbench.core.spec import parse_seeds
from bilevelbench.run import child
from bilevelbench.store import references
from bilevelbench.store.references import Reference
from tests.forked import Forks

SIBLING = "test_every_problem_of_a_suite_has_a_reference_or_phi_star"

FILE = Path(str(references.SHIPPED))
STARTS = 5
BUDGETS = {  # gradients of g: what half a minute of a processor allows, or less where that is enough
    "coreset_kernel": 5_000, "hyper_representation(p=20)": 5_000, "hyper_representation(p=200)": 5_000,
    "logistic(penalty='per_feature')": 100_000, "once": 40_000, "once(kind='attention')": 40_000,
    "reweighting": 40_000, "hyper_cleaning": 40_000, "dictionary": 40_000, "poisoning": 40_000,
    "few_shot": 8_000, "architecture": 20_000, "continual": 40_000, "l2_newsgroups": 8_000,
    "augment": 6_000, "distill": 20_000, "imbalance": 20_000, "prune": 10_000,
    "svm": 2_000, "svm(n=60,m=100)": 4_000,
}  # fmt: skip


def merged(old: list[Reference], new: Reference) -> list[Reference]:
    """The references with one more, sorted; of one instance and version the better."""
    table = {(one.problem, one.seed or 0): one for one in old}
    known = table.get((new.problem, new.seed or 0))
    if known is None or known.version != new.version or new.phi < known.phi:
        table[new.problem, new.seed or 0] = new
    return [table[place] for place in sorted(table)]


def missing(text: str, seed: int, budget: int) -> bool:
    """Whether there is no reference of this instance that was searched for as long."""
    entry, spec = resolve(PROBLEMS, text)
    return not any(
        (one.problem, one.version) == (str(spec), entry.version) and one.seed in (seed, None) and one.budget >= budget
        for one in references.shipped()
    )


def main() -> None:
    """Search, and write each reference as it is found."""
    words = sys.argv[1:]
    seeds, texts = parse_seeds(words[0] if words else "0-9"), words[1:] or list(BUDGETS)
    torch.set_num_threads(1)
    child.processes = Forks  # type: ignore[assignment,misc]  # of this process: a server for each would take longer
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for text in texts:
                if not missing(text, seed, budget := BUDGETS[text]):
                    continue
                for search, found in each([text], None, [seed], budget, STARTS, folder, 600.0, True):
                    if not isinstance(found, Reference):
                        print(f"error: {found}", file=sys.stderr)
                        continue
                    print(f"{search.words}: Phi <= {found.phi:.10g} ({found.how})", flush=True)
                    lines = map(references.dumps, merged(references.shipped(), found))
                    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
