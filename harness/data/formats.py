"""Readers of data files. Nothing in a file is executed; what is cut short or of another kind is ``Unsupported``."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.datasets import load_svmlight_file

from bilevelbench import Unsupported

LIMIT = 1 << 28  # bytes that an archive may unpack to


def _refuse(path: Path, why: str) -> NoReturn:
    raise Unsupported(f"{path} {why}; remove it") from None


# -- IDX (MNIST)


def read_idx(path: Path, content: str = "") -> np.ndarray:
    """The uint8 array of a gzipped IDX file, whose bytes have the sha256 ``content`` where one is given."""
    try:
        with gzip.open(path) as file:
            data = file.read(LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        _refuse(path, f"is no whole gzip file ({error})")
    kind, dimensions = (data[2], data[3]) if len(data) >= 4 and data[:2] == b"\0\0" else (0, 0)
    start = 4 + 4 * dimensions
    if kind != 8 or len(data) < start:
        _refuse(path, "is no IDX file of bytes")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != np.prod(shape):
        _refuse(path, f"has {len(data) - start} bytes where its header says {np.prod(shape)}")
    if content and (found := hashlib.sha256(data).hexdigest()) != content:
        _refuse(path, f"holds other data (sha256 of what is in it {found}, not {content})")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


# -- svmlight text (LIBSVM)


def read_svmlight(path: Path, rows: int, features: int) -> tuple[csr_matrix, np.ndarray]:
    """Sparse rows (rows, features) and labels (rows,) of an svmlight text, float64."""
    try:
        inputs, labels = load_svmlight_file(str(path), n_features=features, zero_based=False)
    except (ValueError, OverflowError, UnicodeDecodeError) as error:
        _refuse(path, f"is no svmlight file of {features} features ({error})")
    if inputs.shape[0] != rows:
        _refuse(path, f"has {inputs.shape[0]} rows, not {rows}")
    return inputs, labels


# -- zipped drawings (Omniglot)


@dataclass(frozen=True)
class Resized:
    """Area average of square drawings in whole numbers: the same bytes on every machine."""

    side: int

    def __call__(self, ink: np.ndarray) -> np.ndarray:
        """Drawings (n, size, size) of zeros and ones to (n, side, side) of 0..255."""
        size = ink.shape[-1]
        edges = np.arange(self.side + 1)[:, None] * size, np.arange(size + 1)[None] * self.side
        low, high = np.maximum(edges[0][:-1], edges[1][:, :-1]), np.minimum(edges[0][1:], edges[1][:, 1:])
        share = np.maximum(high - low, 0).astype(float)  # in 1/side of a pixel: whole numbers, so sums are exact
        total = (share @ ink @ share.T).astype(np.int64)
        return ((255 * total * 2 + size * size) // (2 * size * size)).astype(np.uint8)


def read_omniglot(
    path: Path, folder: str, characters: int, pixels: str, drawings: int = 20, size: int = 105,
    make: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """The drawings of every character in the order of their names, through ``make``: (characters, drawings, ...).

    The archive is judged by what it holds, since copies are packed anew: that many characters, with that many
    drawings each, and pixels with the sha256 ``pixels``.
    """
    found: dict[str, list[np.ndarray]] = {}
    hasher = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename: m for m in archive.infolist() if m.filename.endswith(".png")}
            for name in sorted(members):
                if members[name].file_size > 1 << 16 or name.count("/") != 3 or not name.startswith(f"{folder}/"):
                    _refuse(path, f"holds {name!r}, which is no drawing of {folder}")
                with Image.open(io.BytesIO(archive.read(name)), formats=["PNG"]) as image:
                    if image.size != (size, size):
                        _refuse(path, f"holds {name} of {image.size} pixels, not {size} times {size}")
                    ink = np.asarray(image.convert("L")) < 128
                hasher.update(name.encode() + np.packbits(ink).tobytes())
                found.setdefault(name.rpartition("/")[0], []).append(ink)
    except (OSError, EOFError, SyntaxError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        _refuse(path, f"is no whole archive of drawings ({error})")
    if len(found) != characters or {len(group) for group in found.values()} != {drawings}:
        count = sum(map(len, found.values()))
        _refuse(path, f"holds {len(found)} characters and {count} drawings, not {characters} with {drawings} each")
    if hasher.hexdigest() != pixels:
        _refuse(path, f"holds other drawings (sha256 of their pixels {hasher.hexdigest()}, not {pixels})")
    return np.stack([(make or np.asarray)(np.stack(group)) for group in found.values()])


# -- messages (20 Newsgroups): scikit-learn's compressed pickle, or the tar of the data's own host


@dataclass(frozen=True)
class Messages:
    """Training messages and the test ones, each in the order of their names, with the number of their group."""

    groups: list[str]
    train: list[str]
    train_groups: np.ndarray
    test: list[str]
    test_groups: np.ndarray


class _Plain(dict):
    """Stands for scikit-learn's Bunch: its items, and nothing of its class."""

    def __setstate__(self, state: object) -> None:
        """A Bunch has no state beside its items."""


def _frombuffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """What numpy's function of this name does."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


PLAIN: dict[tuple[str, str], Any] = {
    **{(f"sklearn.{module}", "Bunch"): _Plain for module in (
        "utils", "utils._bunch", "datasets.base", "datasets._base",
    )},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}  # fmt: skip


class PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, strings, numbers and numpy arrays; any other class or function is refused unseen."""

    def find_class(self, module: str, name: str) -> Any:
        """One of ``PLAIN``, never imported by the name in the file."""
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return PLAIN[module, name]


def read_newsgroups(path: Path, counts: tuple[int, int], content: str) -> Messages:
    """The messages of 20news-bydate, as many as ``counts`` says, their texts with the sha256 ``content``."""
    try:
        texts = dict(_from_tar(path) if path.suffix == ".gz" else _from_pickle(path))
    except (OSError, EOFError, tarfile.TarError, zlib.error, pickle.UnpicklingError) as error:
        _refuse(path, f"is no whole archive of messages ({error})")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, UnicodeError, MemoryError) as error:
        _refuse(path, f"does not hold messages as expected ({type(error).__name__})")
    names = sorted(texts)
    parts = [[name for name in names if name.startswith(f"20news-bydate-{part}/")] for part in ("train", "test")]
    if tuple(map(len, parts)) != counts:
        _refuse(path, f"holds {len(parts[0])} and {len(parts[1])} messages, not {counts[0]} and {counts[1]}")
    hasher = hashlib.sha256()
    for name in names:
        hasher.update(f"{name}\0{texts[name]}\0".encode("latin1"))
    if hasher.hexdigest() != content:
        _refuse(path, f"holds other messages (sha256 of their texts {hasher.hexdigest()}, not {content})")
    groups = sorted({name.split("/")[1] for name in names})
    number = [np.array([groups.index(name.split("/")[1]) for name in part]) for part in parts]
    return Messages(groups, [texts[n] for n in parts[0]], number[0], [texts[n] for n in parts[1]], number[1])


def _from_pickle(path: Path) -> Iterator[tuple[str, str]]:
    unpack = zlib.decompressobj()
    raw = unpack.decompress(path.read_bytes(), LIMIT)
    if not unpack.eof:
        raise EOFError("it ends too early or is too large")
    for part in PlainUnpickler(io.BytesIO(raw)).load().values():
        for name, text in zip(part["filenames"], part["data"], strict=True):
            yield "/".join(str(name).replace("\\", "/").split("/")[-3:]), text


def _from_tar(path: Path) -> Iterator[tuple[str, str]]:
    left = LIMIT
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:  # read in memory; nothing is unpacked on the disk
            left -= member.size
            if left < 0:
                raise ValueError("too large")
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                yield member.name.removeprefix("./"), file.read().decode("latin1")
