"""Torch's operations in JAX that pick, put and make parts of tensors, and those of classifiers: a part of ``aten``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import torch

from .errors import Unsupported

Array = Any  # of JAX
DTYPES: dict[Any, Any] = {
    torch.float64: jnp.float64, torch.float32: jnp.float32, torch.int64: jnp.int64, torch.int32: jnp.int32,
    torch.bool: jnp.bool_,
}  # fmt: skip
ALL = slice(None)


def along(a: Any, axis: int, where: Any) -> tuple[Any, ...]:
    """An index that says ``where`` on one axis."""
    return (*[ALL] * (axis % a.ndim), where) if a.ndim else ()


def indices(where: Sequence[Any]) -> tuple[Any, ...]:
    if any(w is not None and w.dtype == jnp.bool_ for w in where):
        raise Unsupported("it picks as many entries of a tensor as a condition holds for")
    return tuple(ALL if w is None else w for w in where)


def put(a: Array, where: Sequence[Any], values: Array, accumulate: bool = False) -> Array:
    if any(w is not None and w.dtype == jnp.bool_ for w in where) and values.ndim == 0 and len(where) == 1:
        mask = where[0].reshape(where[0].shape + (1,) * (a.ndim - where[0].ndim))
        return jnp.where(mask, a + values if accumulate else values, a)
    place = a.at[indices(where)]
    return place.add(values) if accumulate else place.set(values)


def grid(axis: int, where: Array) -> tuple[Any, ...]:
    """The index by which torch's gather and scatter mean ``where``."""
    at = list(jnp.indices(where.shape, sparse=True))
    at[axis] = where
    return tuple(at)


def scattered(a: Array, axis: int, where: Array, values: Any, add: bool = False) -> Array:
    if getattr(values, "ndim", 0):
        values = values[tuple(slice(0, n) for n in where.shape)]
    place = a.at[grid(axis, where)]
    return place.add(values) if add else place.set(values)


def part(a: Array, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return a[along(a, axis, slice(start, end, step))]


def slice_back(g: Array, shape: Any, axis: int, start: int, end: int, step: int) -> Array:
    zeros = jnp.zeros(shape, g.dtype)
    return zeros.at[along(zeros, axis, slice(start, end, step))].set(g)


def select_back(g: Array, shape: Any, axis: int, k: int) -> Array:
    zeros = jnp.zeros(shape, g.dtype)
    return zeros.at[along(zeros, axis, k)].set(g)


def slice_scatter(a: Array, b: Array, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Array:
    return a.at[along(a, axis, slice(start, end, step))].set(b)


def split(a: Array, parts: int | Sequence[int], axis: int = 0) -> list[Array]:
    sizes = [parts] * -(-a.shape[axis] // parts) if isinstance(parts, int) else parts
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]
    return list(jnp.split(a, ends, axis))


def expand(a: Array, shape: Sequence[int], implicit: bool = False) -> Array:
    new = len(shape) - a.ndim
    return jnp.broadcast_to(a, [a.shape[i - new] if n == -1 else n for i, n in enumerate(shape)])


def squeeze(a: Array, axes: Any = None) -> Array:
    axes = range(a.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    return jnp.squeeze(a, tuple(axis for axis in axes if a.ndim and a.shape[axis] == 1))


def _strides(size: Sequence[int], stride: Sequence[int], offset: int | None) -> Array:
    """Where the entries of a strided part lie in a tensor whose rows lie one after the other."""
    at = jnp.full((1,) * len(size), offset or 0)
    for axis, (n, step) in enumerate(zip(size, stride, strict=True)):
        at = at + step * jnp.arange(n).reshape([-1 if k == axis else 1 for k in range(len(size))])
    return at


def strided(a: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Array:
    """A part by strides; the first step is held to torch's, for a tensor may lie otherwise there."""
    return a.reshape(-1)[_strides(size, stride, offset)]


def strided_scatter(a: Array, b: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Array:
    """A tensor with another part by strides."""
    return a.reshape(-1).at[_strides(size, stride, offset)].set(b).reshape(a.shape)


# -- tensors made of none


def filled(value: float) -> Callable[..., Array]:
    return lambda shape, dtype=None: jnp.full(shape, value, dtype or DTYPES[torch.get_default_dtype()])


def full(shape: Any, value: Any, dtype: Any = None) -> Array:
    usual = DTYPES[torch.get_default_dtype()] if isinstance(value, float) else None
    return jnp.full(shape, value, dtype or usual)


def like(value: float) -> Callable[..., Array]:
    return lambda a, dtype=None: jnp.full(a.shape, value, dtype or a.dtype)


def new(value: float) -> Callable[..., Array]:
    return lambda a, shape, dtype=None: jnp.full(shape, value, dtype or a.dtype)


# -- classifiers


def _picked(scores: Array, labels: Array, weight: Array | None, ignored: int) -> tuple[Array, ...]:
    """The score of each row's label, the weight that the row has, and whether it counts."""
    if scores.ndim != 2:
        raise Unsupported("it takes the loss of other than a matrix of scores")
    counts = labels != ignored
    places = jnp.where(counts, labels, 0)
    heavy = jnp.ones_like(scores[:, 0]) if weight is None else weight[places]
    return jnp.take_along_axis(scores, places[:, None], 1)[:, 0], jnp.where(counts, heavy, 0), counts


def nll(a: Array, labels: Array, weight: Array | None, reduction: int, ignored: int) -> tuple[Array, Array]:
    """Negative log-likelihoods: each (reduction 0), their mean (1) or sum (2); and the weights together."""
    scores, weights, counts = _picked(a, labels, weight, ignored)
    each, total = jnp.where(counts, -weights * scores, 0), jnp.sum(weights)
    return (each, jnp.sum(each) / total, jnp.sum(each))[reduction], total if reduction else jnp.zeros_like(total)


def nll_back(
    g: Array, a: Array, labels: Array, weight: Array | None, reduction: int, ignored: int, total: Array
) -> Array:
    """The gradient of ``nll`` in the scores."""
    _, weights, counts = _picked(a, labels, weight, ignored)
    each = jnp.where(counts, -weights * (g / total if reduction == 1 else g), 0)
    return jnp.where(jnp.arange(a.shape[1]) == labels[:, None], each[:, None], 0)
