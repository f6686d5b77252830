"""What each data set is like: duplicates, leaks into the test rows, empty rows, rank, order, range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Facts(NamedTuple):
    """Counts over the rows (n, d) of a data set, and over the test rows that belong to it; how is in ``count``."""

    rows: int
    features: int
    duplicates: int  # rows whose inputs an earlier row has already
    contradicted: int  # rows whose inputs occur with another label too
    empty: int  # rows of zeros only
    unused: int  # features that are zero in every row
    rank: int | None  # of the matrix of inputs; None where it is not told apart
    low: float  # least and largest entry
    high: float
    scales: tuple[float, float]  # least and largest of the features' largest magnitudes, unused ones left out
    classes: int
    stretches: int  # maximal runs of rows with one label: as many as classes where the rows are sorted
    shuffled: int  # stretches to be expected in random order
    test_rows: int = 0
    test_seen: int = 0  # test rows whose inputs occur in training
    test_other: int = 0  # those of them whose inputs occur with other labels only
    note: str = ""  # what no count tells
    files: tuple[str, ...] = ()  # any of which, read, means that these data were; paths in the data folder

    def clauses(self) -> str:
        """What a reader has to know before a comparison, a few words each; what is as it should be is left out."""
        counts = {
            "{} repeat an earlier row": self.duplicates, "{} occur with another label too": self.contradicted,
            "{} are empty": self.empty,
        }  # fmt: skip
        parts = [f"{self.rows} rows", *(words.format(count) for words, count in counts.items() if count)]
        parts.append(f"rank {'not told' if self.rank is None else self.rank} of {self.features}")
        low, high = self.scales
        uneven = f", features up to {low:g} .. {high:g}" if high > 10 * low else ""
        parts.append(f"values {self.low:g} .. {self.high:g}{uneven}")
        if self.stretches < 0.9 * self.shuffled:
            ordered = self.stretches == self.classes
            parts.append(
                "sorted by class" if ordered else f"{self.stretches} runs of a class, {self.shuffled} if shuffled"
            )
        if self.test_rows:
            other = f", {self.test_other} only with another label" if self.test_other else ""
            parts.append(f"{self.test_seen} of {self.test_rows} test rows occur in training{other}")
        return "; ".join([*parts, *([self.note] if self.note else [])])


# Counted by `python -m bilevelbench.data.count`. By first file; a9a.t holds the test rows of a9a, the characters of
# Omniglot's evaluation set (28x28 pixels) stand for its test rows, w8a's were not at hand.
FACTS: dict[str, Facts] = {
    "a9a": Facts(
        files=("libsvm/a9a",),
        rows=32561, features=123, duplicates=7614, contradicted=4150, empty=0, unused=0, rank=108, low=0.0, high=1.0,
        scales=(1.0, 1.0), classes=2, stretches=11944, shuffled=11907, test_rows=16281, test_seen=5528,
        test_other=634,
    ),
    "w8a": Facts(
        files=("libsvm/w8a",),
        rows=49749, features=300, duplicates=15045, contradicted=5476, empty=4203, unused=0, rank=266, low=0.0,
        high=1.0, scales=(1.0, 1.0), classes=2, stretches=3, shuffled=2871,
    ),
    "australian": Facts(
        files=("libsvm/australian",),
        rows=690, features=14, duplicates=0, contradicted=0, empty=0, unused=0, rank=14, low=0.0, high=100001.0,
        scales=(1.0, 100001.0), classes=2, stretches=332, shuffled=342,
    ),
    "breast-cancer_scale": Facts(
        files=("libsvm/breast-cancer_scale",),
        rows=683, features=10, duplicates=8, contradicted=0, empty=0, unused=0, rank=10, low=-1.0, high=1.0,
        scales=(1.0, 1.0), classes=2, stretches=252, shuffled=312,
        note="the first feature is the sample's number, without which 234 rows repeat an earlier one",
    ),
    "letter.scale": Facts(
        files=("libsvm/letter.scale",),
        rows=15000, features=16, duplicates=831, contradicted=0, empty=0, unused=0, rank=16, low=-1.0, high=1.0,
        scales=(1.0, 1.0), classes=26, stretches=14394, shuffled=14423,
    ),
    "mnist": Facts(
        files=("MNIST/raw/train-images-idx3-ubyte.gz",),
        rows=60000, features=784, duplicates=0, contradicted=0, empty=0, unused=67, rank=712, low=0.0, high=255.0,
        scales=(7.0, 255.0), classes=10, stretches=54150, shuffled=53984, test_rows=10000, test_seen=0, test_other=0,
    ),
    "omniglot": Facts(
        files=("omniglot-py/images_background.zip",),
        rows=19280, features=784, duplicates=1, contradicted=0, empty=0, unused=6, rank=777, low=0.0, high=255.0,
        scales=(8.0, 255.0), classes=964, stretches=964, shuffled=19261, test_rows=13180, test_seen=0, test_other=0,
    ),
    "newsgroups": Facts(
        files=("20newsgroups/20news-bydate.tar.gz", "20newsgroups/20news-bydate_py3.pkz"),
        rows=11314, features=130107, duplicates=3, contradicted=2, empty=0, unused=0, rank=11311, low=0.0,
        high=0.99733, scales=(8.94386e-05, 0.99733), classes=20, stretches=20, shuffled=10744, test_rows=7532,
        test_seen=1, test_other=0,
        note="as read here: by group, rows of length one",
    ),
}  # fmt: skip


def behind(paths: Iterable[str]) -> list[str]:
    """What is to be known of the data among the files that were read, a line a set, in the order of ``FACTS``."""
    read = [path.replace("\\", "/") for path in paths]
    return [
        f"{name}: {facts.clauses()}" for name, facts in FACTS.items()
        if any(f"/{path}".endswith(f"/{file}") for path in read for file in facts.files)
    ]  # fmt: skip
