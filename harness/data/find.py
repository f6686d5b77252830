"""Data files: looked for in $BILEVELBENCH_DATA, then in the user cache, then downloaded there with a checksum."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
from rich.console import Console
from rich.progress import Progress
from scipy.sparse import csr_matrix

from bilevelbench import RequestError, Unsupported
from bilevelbench.core.spec import suggest

from . import cache
from .facts import FACTS
from .formats import Resized
from .messages import TOPICS, counted, numbered
from .sources import SOURCES, File

TIMEOUT = 30  # seconds without an answer, after which a host is given up

# -- finding


def places() -> list[Path]:
    """The folders that hold data, in the order in which they are searched; downloads go to the last."""
    own = os.environ.get("BILEVELBENCH_DATA")
    return [*([Path(own)] if own else []), cache.root()]


def local(file: File) -> Path | None:
    """The path of a file that is at hand and has the right checksum, None where there is none.

    ``Unsupported`` where it is corrupt. What is checked by content instead, the reader judges.
    """
    for path in (place / name for place in places() for name in file.paths):
        if path.is_file():
            if not file.by_content and digest(path, file.digest.partition(":")[0]) != file.digest:
                raise Unsupported(f"{path} is corrupt (its checksum is not {file.digest}); remove it")
            return path
    return None


def find(file: File) -> Path:
    """The path of a file, downloaded if need be; ``Unsupported`` says in one sentence why there is none."""
    if path := local(file):
        return path
    pooch.get_logger().setLevel("ERROR")
    path, reasons = places()[-1] / file.paths[0], []
    for url in file.urls:
        with Watched(file.name) as bar:
            try:
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
                return Path(pooch.retrieve(url, file.digest, fname=path.name, path=path.parent, downloader=fetch))
            except Exception as error:  # whatever a download can meet
                reasons.append(_why(error))
    raise Unsupported(
        f"{file.paths[0]} is neither in $BILEVELBENCH_DATA nor in the user cache, and downloading failed "
        f"({', '.join(reasons)}); set BILEVELBENCH_DATA to a folder that has it"
    )


def _why(error: Exception) -> str:
    """In a few words, why a download failed; the names are those of requests and of pooch."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"{answer.status_code} {answer.reason}"
    kinds = {
        "ValueError": "another checksum", "ChunkedEncodingError": "the transfer broke off",
        "ReadTimeout": "no answer", "ConnectTimeout": "no answer", "ConnectionError": "no connection",
        "ProxyError": "no connection",
    }  # fmt: skip
    return kinds.get(type(error).__name__, f"{type(error).__name__}: {error}".partition("\n")[0])


def digest(path: Path, kind: str = "sha256") -> str:
    """``kind:hex`` of a file's bytes."""
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()}"


class Watched:
    """pooch's progress bar, drawn by rich where a person watches, else nothing."""

    def __init__(self, name: str) -> None:
        self._bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self._task = self._bar.add_task(name, total=None)
        self.total = 0

    def __enter__(self) -> Watched:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, n: int) -> None:
        """``n`` more bytes are here."""
        self._bar.update(self._task, advance=n, total=self.total or None)

    def reset(self) -> None:
        """Back to the beginning."""
        self._bar.reset(self._task)

    def close(self) -> None:
        """Nothing more comes."""
        self._bar.stop()


def chosen(name: str) -> list[File]:
    """The files of a source, or the one file of that name; ``RequestError`` with the nearest names for another."""
    if name in SOURCES:
        return list(SOURCES[name].files)
    # Fashion-MNIST's files are called as MNIST's, which these names then mean
    files = {file.name: file for source in reversed(SOURCES.values()) for file in source.files}
    if name not in files:
        raise RequestError(f"there are no data called {name!r}; {suggest(name, [*SOURCES, *files])}")
    return [files[name]]


def listing() -> Iterator[str]:
    """Sources with their licences, their files with size and place, and what the data are like, line by line."""
    for name, source in SOURCES.items():
        yield f"{name}  {source.title}; licence: {source.licence}"
        if name in FACTS:
            yield f"  {FACTS[name].clauses()}"
        for file in source.files:
            try:
                path = local(file)
                where = str(path or "not here")
            except Unsupported as reason:
                path, where = None, str(reason)
            size = path.stat().st_size if path else file.size
            yield f"  {file.name:26}  {f'{size / 1e6:.2f} MB' if size else '':>9}  {where}"
            if file.name in FACTS:
                yield f"    {FACTS[file.name].clauses()}"


def verify() -> Iterator[tuple[bool, str]]:
    """Every file read and held to its checksum or content: (good, one line)."""
    for name, source in SOURCES.items():
        for file in source.files:
            try:
                path = local(file)
                if path is not None:
                    file.read(path)
            except Unsupported as reason:
                yield False, f"{name}: {reason}"
                continue
            if path is None:
                yield False, f"{name}: {file.paths[0]} is missing; `bilevelbench data fetch {name}` downloads it"
            else:
                yield True, f"{name}: {path} is good"


# -- one loader per source


Images = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@functools.lru_cache(maxsize=1)
def mnist() -> Images:
    """Training images (60000, 784) and labels, then the 10000 test ones, as uint8."""
    return _images("mnist")


@functools.lru_cache(maxsize=1)
def fashion() -> Images:
    """Fashion-MNIST, in the shape of MNIST."""
    return _images("fashion")


def _images(name: str) -> Images:
    images, labels, test, test_labels = (np.asarray(file.read(find(file))) for file in SOURCES[name].files)
    return images.reshape(len(images), -1), labels, test.reshape(len(test), -1), test_labels


@functools.lru_cache(maxsize=4)
def libsvm(name: str) -> tuple[csr_matrix, np.ndarray]:
    """The rows (n, features) and labels (n,) of one of LIBSVM's files, float64; features that it lacks are zero."""
    (file,) = (file for file in SOURCES["libsvm"].files if file.name == name)
    return file.read(find(file))  # type: ignore[return-value]


@functools.lru_cache(maxsize=2)
def omniglot(side: int = 28) -> np.ndarray:
    """All drawings, the background set's characters first, shape (1623, 20, side, side), uint8, ink 255."""
    paths = [find(file) for file in SOURCES["omniglot"].files]
    resize = Resized(side)
    made = cache.arrays(
        "omniglot", [side, *map(digest, paths)],
        lambda: {"images": np.concatenate([
            file.read(path, make=resize) for file, path in zip(SOURCES["omniglot"].files, paths, strict=True)  # type: ignore[call-arg]
        ])},
    )  # fmt: skip
    return made["images"]


@functools.lru_cache(maxsize=1)
def newsgroups() -> tuple[csr_matrix, np.ndarray, csr_matrix, np.ndarray]:
    """Word counts of the training messages (11314, 130107), rows of length one, and their groups; then the test ones.

    float64, as scikit-learn's ``fetch_20newsgroups_vectorized`` makes them, but in the order of the messages' names.
    """
    (file,) = SOURCES["newsgroups"].files
    path = find(file)
    made = cache.arrays("newsgroups", digest(path), lambda: counted(file.read(path)))  # type: ignore[arg-type]
    size = (len(made["groups"]), int(made["words"]))
    rows, test = (
        csr_matrix((made[f"{part}data"], made[f"{part}indices"], made[f"{part}indptr"]), (n, size[1]))
        for part, n in (("", size[0]), ("test_", len(made["test_groups"])))
    )
    return rows, made["groups"], test, made["test_groups"]


@functools.lru_cache(maxsize=2)
def newsgroups_words(words: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The training and the test messages of six topics, each as one row of numbers below ``words``.

    Numbers 1, 2, ... are the most frequent words of the training messages, in that order, 0 is any other word. A word
    is a run of the letters a to z in lower case; headers, to the first empty line, are left out.
    """
    (file,) = SOURCES["newsgroups"].files
    path = find(file)
    made = cache.arrays("newsgroups_words", [digest(path), words], lambda: numbered(file.read(path), words))  # type: ignore[arg-type]
    return tuple([made[f"{part}{k}"] for k in range(len(TOPICS))] for part in ("train", "test"))  # type: ignore[return-value]
