"""Rows of data out of what training scripts have: lists of batches, a ``Dataset``, a ``DataLoader``.

A batch is a tuple of columns, or a dictionary, or one tensor; columns may be nested. All of a batch's tensors have its
rows along their first dimension.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, default_collate

from .draw import Draw

BLOCK = 256  # rows of a ``Dataset`` that are read together
MOST_BYTES, MOST_SECONDS = 2 << 30, 120.0  # of a loader that says no length: it may have no end

Path = tuple[Any, ...]


class Rows:
    """Columns in memory. ``rows(index)`` is the batch of some rows, as arguments of a loss."""

    def __init__(self, make: Callable[[list[Tensor]], Any], columns: list[Tensor]) -> None:
        self._make, self._columns = make, columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __call__(self, rows: Any = ...) -> tuple[Any, ...]:
        return _arguments(self._make([column[rows] for column in self._columns]))


class Streamed:
    """Rows that are read when they are asked for, from a ``Dataset`` that may be larger than memory."""

    def __init__(self, rng: Draw, dataset: Any, name: str) -> None:
        self._dataset, self._name, self._place = dataset, name, rng.place
        self(torch.zeros(1, dtype=torch.long))  # what cannot be read is said now

    def __len__(self) -> int:
        return len(self._dataset)

    def __call__(self, rows: Any = ...) -> tuple[Any, ...]:
        index = range(len(self)) if rows is ... or rows is None else rows.tolist()
        batch = default_collate([self._dataset[i] for i in index])
        shape, leaves = _leaves(batch, self._name)
        return _arguments(_made(shape, (self._place(leaf) for _, leaf in leaves)))


def rows_of(rng: Draw, loader: Any, name: str, in_memory: bool = True) -> Rows | Streamed:
    """All rows of a loader, in its order; of one that shuffles, in its data set's.

    ValueError where it yields nothing, has no end, or yields what are no columns of one length.
    """
    if not in_memory:
        dataset = loader.dataset if isinstance(loader, DataLoader) else loader
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        ):
            raise ValueError(f"{name}: in_memory=False needs a Dataset whose rows can be asked for by number")
        if not len(dataset):
            raise ValueError(f"{name} yields no data")
        return Streamed(rng, dataset, name)
    shape: Any = None
    paths, columns = list[Path](), list[list[Tensor]]()
    for batch in _ended(_batches(loader), loader, name):
        found, leaves = _leaves(batch, name)
        if not columns:
            shape, paths, columns = found, [path for path, _ in leaves], [[] for _ in leaves]
        if [path for path, _ in leaves] != paths:
            said = ", then ".join(", ".join(map(_named, some)) for some in (paths, [path for path, _ in leaves]))
            raise ValueError(f"{name} yields batches with different columns: {said}")
        lengths = {len(leaf) for _, leaf in leaves}
        if len(lengths) > 1:
            said = ", ".join(f"{len(leaf)} of {_named(path)}" for path, leaf in leaves)
            raise ValueError(f"{name} yields columns of different lengths: {said}")
        for (path, leaf), column in zip(leaves, columns, strict=True):
            if column and leaf.shape[1:] != column[0].shape[1:]:
                raise ValueError(
                    f"{name}: rows of {_named(path)} have shape {tuple(column[0].shape[1:])} in one batch and "
                    f"{tuple(leaf.shape[1:])} in another; pad them to one length"
                )
            column.append(leaf)
    if not columns or not sum(map(len, columns[0])):
        raise ValueError(f"{name} yields no data")
    return Rows(lambda leaves: _made(shape, iter(leaves)), [rng.put(torch.cat(column)) for column in columns])


def _batches(loader: Any) -> Iterator[Any]:
    """Batches, in an order that hangs on no generator of random numbers."""
    if isinstance(loader, DataLoader):
        sampler = loader.sampler
        if loader.batch_size and type(sampler) is RandomSampler and not sampler.replacement:
            loader = DataLoader(loader.dataset, loader.batch_size, collate_fn=loader.collate_fn)
        yield from loader
    elif isinstance(loader, IterableDataset):
        yield from (default_collate([row]) for row in loader)
    elif isinstance(loader, Dataset):
        numbers = range(len(loader))  # type: ignore[arg-type]
        yield from (default_collate([loader[i] for i in numbers[first : first + BLOCK]]) for first in numbers[::BLOCK])
    elif isinstance(loader, Iterable) and not isinstance(loader, Tensor | Mapping | str):
        yield from loader
    else:
        yield loader  # one batch by itself


def _ended(batches: Iterator[Any], loader: Any, name: str) -> Iterator[Any]:
    """The batches, with a ValueError where there is no end in sight."""
    try:
        len(loader)
    except TypeError:
        limited = True
    else:
        limited = False
    size, began = 0, time.monotonic()
    for batch in batches:
        yield batch
        if limited:
            size += sum(leaf.nbytes for _, leaf in _leaves(batch, name)[1])
            if size > MOST_BYTES or time.monotonic() - began > MOST_SECONDS:
                raise ValueError(
                    f"{name} says no length and had no end after {size / 2**30:.1f} GiB and "
                    f"{time.monotonic() - began:.0f} s; give it one (itertools.islice), or give a Dataset"
                )


def _leaves(batch: Any, name: str, path: Path = ()) -> tuple[Any, list[tuple[Path, Tensor]]]:
    """What a batch is made of (None for a leaf), and its tensors with their places."""
    if isinstance(batch, Mapping):
        parts = {key: _leaves(part, name, (*path, key)) for key, part in batch.items()}
        return {key: shape for key, (shape, _) in parts.items()}, [leaf for _, some in parts.values() for leaf in some]
    if isinstance(batch, Sequence) and not isinstance(batch, str | bytes) and _nested(batch):
        found = [_leaves(part, name, (*path, i)) for i, part in enumerate(batch)]
        return tuple(shape for shape, _ in found), [leaf for _, some in found for leaf in some]
    try:
        leaf = torch.as_tensor(batch)
    except (TypeError, ValueError, RuntimeError):
        kind = type(batch[0]).__name__ if isinstance(batch, Sequence) and batch else type(batch).__name__
        raise ValueError(f"{name}: {_named(path)} holds {kind}; batches are made of tensors and numbers") from None
    if not leaf.ndim:
        raise ValueError(f"{name}: {_named(path)} is one number, where a column has one for each row")
    return None, [(path, leaf)]


def _nested(batch: Sequence[Any]) -> bool:
    """Whether it is a tuple of columns rather than a column of numbers."""
    return any(
        isinstance(part, Tensor | np.ndarray | Mapping | Sequence) and not isinstance(part, str) for part in batch
    )


def _made(shape: Any, leaves: Iterator[Tensor]) -> Any:
    """The batch again, of other tensors."""
    if isinstance(shape, dict):
        return {key: _made(part, leaves) for key, part in shape.items()}
    return tuple(_made(part, leaves) for part in shape) if isinstance(shape, tuple) else next(leaves)


def _arguments(batch: Any) -> tuple[Any, ...]:
    """What a loss is given: the columns of a tuple one by one, all else as it is."""
    return batch if isinstance(batch, tuple) else (batch,)


def _named(path: Path) -> str:
    return f"column {'.'.join(map(str, path))!r}" if path else "its batch"
