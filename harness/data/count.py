"""What a data set is like, counted from its files: `python -m bilevelbench.data.count NAME` prints its facts."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

from . import find
from .facts import FACTS, Facts

DECIMALS = 9  # to which inputs are the same: rows of length one are computed, so their last digits are not data
GAP = 1e4  # above the rounding of eigenvalues, within which a rank is not told

Labelled = tuple[csr_matrix, np.ndarray]


def keys(rows: csr_matrix) -> list[bytes]:
    """One key a row; rows with the same inputs, to nine decimals, have the same key."""
    rows = csr_matrix(rows, dtype=np.float64, copy=True)
    rows.data = np.round(rows.data, DECIMALS)
    rows.eliminate_zeros()
    rows.sort_indices()
    places, values = rows.indices.astype(np.int64), rows.data
    spans = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return [places[a:b].tobytes() + values[a:b].tobytes() for a, b in spans]


def seen(rows: csr_matrix, training: csr_matrix) -> np.ndarray:
    """Which rows have inputs that occur in training, (n,), bool."""
    known = set(keys(training))
    return np.array([key in known for key in keys(rows)], dtype=bool)


def rank(matrix: csr_matrix) -> int | None:
    """The rank of a sparse matrix (n, d); None where its spectrum has no gap by which to tell.

    A column with a single entry makes the row of that entry independent of all others: such rows are counted and
    taken away, as long as there are any. Of the rest, columns (or rows, whichever are fewer) are scaled to length
    one, which changes no rank, and the eigenvalues of their Gram matrix that are above its rounding count.
    """
    rest, peeled = csr_matrix(matrix, dtype=np.float64, copy=True), 0
    rest.eliminate_zeros()  # stored ones would make entries
    while rest.shape[0]:
        single = np.bincount(rest.indices, minlength=rest.shape[1]) == 1
        alone = np.unique(np.repeat(np.arange(rest.shape[0]), np.diff(rest.indptr))[single[rest.indices]])
        if not len(alone):
            break
        peeled += len(alone)
        rest = rest[np.setdiff1d(np.arange(rest.shape[0]), alone)]
    sides = [side for side in (rest.T.tocsr(), rest) if side.nnz]
    if not sides:
        return peeled
    side = min((_nonzero(side) for side in sides), key=lambda side: side.shape[0])
    gram = (side @ side.T).toarray()  # exact where the inputs are whole numbers
    length = np.sqrt(gram.diagonal())
    values = np.linalg.eigvalsh(gram / length / length[:, None])
    terms = len(values) + np.diff(side.indptr).max()
    rounding = terms * np.finfo(float).eps * values[-1]
    told = ~((values > rounding) & (values <= GAP * rounding)).any()
    return peeled + int((values > rounding).sum()) if told else None


def _nonzero(side: csr_matrix) -> csr_matrix:
    return side[np.diff(side.indptr) > 0]


def facts(train: Labelled, test: Labelled | None = None) -> Facts:
    """All that ``Facts`` says of rows (n, d) with labels (n,), and of test rows beside them."""
    inputs, labels = csr_matrix(train[0], dtype=np.float64, copy=True), train[1]
    inputs.eliminate_zeros()
    given: dict[bytes, set[float]] = {}
    own = keys(inputs)
    for key, label in zip(own, labels.tolist(), strict=True):
        given.setdefault(key, set()).add(label)
    largest = abs(inputs).max(0).toarray().ravel()
    _, counts = np.unique(labels, return_counts=True)
    found = Facts(
        rows=inputs.shape[0], features=inputs.shape[1], duplicates=len(own) - len(given),
        contradicted=sum(len(given[key]) > 1 for key in own), empty=int((np.diff(inputs.indptr) == 0).sum()),
        unused=int((largest == 0).sum()), rank=rank(inputs), low=_short(inputs.min()), high=_short(inputs.max()),
        scales=(_short(largest[largest > 0].min(initial=np.inf)), _short(largest.max())), classes=len(counts),
        stretches=1 + int((labels[1:] != labels[:-1]).sum()),
        shuffled=round(1 + len(labels) - float((counts.astype(float) ** 2).sum()) / len(labels)),
    )  # fmt: skip
    if test is None:
        return found
    others = [(given[key], label) for key, label in zip(keys(test[0]), test[1].tolist(), strict=True) if key in given]
    return found._replace(
        test_rows=test[0].shape[0], test_seen=len(others), test_other=sum(label not in known for known, label in others)
    )


def _short(value: float) -> float:
    """Six digits: more are the rounding of what was computed."""
    return float(f"{value:.6g}")


def _mnist() -> tuple[Labelled, Labelled]:
    images, labels, test, test_labels = find.mnist()
    return (csr_matrix(images), labels), (csr_matrix(test), test_labels)


def _omniglot() -> tuple[Labelled, Labelled]:
    """At 28x28 pixels; the characters of the evaluation set stand for test rows."""
    images = find.omniglot().reshape(1623 * 20, -1)
    labels = np.repeat(np.arange(1623), 20)
    return (csr_matrix(images[: 964 * 20]), labels[: 964 * 20]), (csr_matrix(images[964 * 20 :]), labels[964 * 20 :])


def _newsgroups() -> tuple[Labelled, Labelled]:
    rows, groups, test, test_groups = find.newsgroups()
    return (rows, groups), (test, test_groups)


OTHERS: dict[str, Callable[[], tuple[Labelled, ...]]] = {
    "mnist": _mnist, "omniglot": _omniglot, "newsgroups": _newsgroups,
    "a9a": lambda: (find.libsvm("a9a"), find.libsvm("a9a.t")),
}  # fmt: skip


def counted(name: str) -> Facts:
    """The facts of one data set, from its files; its note is not counted."""
    return facts(*(OTHERS[name]() if name in OTHERS else (find.libsvm(name),)))


if __name__ == "__main__":
    for name in sys.argv[1:] or FACTS:
        print(f"    {name!r}: {counted(name)!r},")
