"""Torch's operations in JAX, by name: what a recorded step consists of (``traced``), lowered for the engine jax.

A function here takes what torch's operation takes, with JAX's dtypes, less what says where a tensor lies. It answers as
torch does for NaN, infinities and zeros, too: the tests hold each to torch. What is not in ``TABLE`` is taken apart
into what is by torch's own decompositions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from . import images, places
from .places import Array


def _axes(dims: Any) -> Any:
    """Torch's word for all axes is an empty list, or none."""
    return tuple(dims) or None if isinstance(dims, Sequence) else dims


def _reduced(reduce: Callable[..., Array]) -> Callable[..., Array]:
    return lambda a, dims=None, keep=False, **named: reduce(a, axis=_axes(dims), keepdims=keep, **named)


def _extreme(value: Callable[..., Array], place: Callable[..., Array]) -> Callable[..., Any]:
    """max and min: of all, or along an axis with the places where they are."""

    def extreme(a: Array, axis: int | None = None, keep: bool = False) -> Any:
        if axis is None:
            return value(a)
        return value(a, axis, keepdims=keep), place(a, axis, keepdims=keep)

    return extreme


def _norm(a: Array, p: float = 2, dims: Any = None, keep: bool = False, dtype: Any = None) -> Array:
    size, how = jnp.abs(a if dtype is None else a.astype(dtype)), {"axis": _axes(dims), "keepdims": keep}
    if math.isinf(p):
        return (jnp.max if p > 0 else jnp.min)(size, **how)
    if p == 0:
        return jnp.sum((size != 0).astype(size.dtype), **how)
    if p == 1:
        return jnp.sum(size, **how)
    return jnp.sqrt(jnp.sum(size * size, **how)) if p == 2 else jnp.sum(size**p, **how) ** (1 / p)


def _variance(a: Array, dims: Any = None, *, correction: float | None = 1, keepdim: bool = False) -> Array:
    return jnp.var(a, axis=_axes(dims), ddof=1 if correction is None else correction, keepdims=keepdim)


def _sorted(a: Array, dim: int = -1, descending: bool = False, stable: bool = True) -> tuple[Array, Array]:
    places = jnp.argsort(a, axis=dim, descending=descending, stable=True)
    return jnp.take_along_axis(a, places, dim), places


# -- products. A transposed matrix is read along its other axis: XLA would turn it around in memory at every step


def _product(a: Array, b: Array, turned: Sequence[bool] = (False, False)) -> Array:
    if turned[0] and b.ndim == 1:  # a row times the matrix as it lies
        a, b, turned = b, a, (False, False)
    axes = 0 if turned[0] else a.ndim - 1, b.ndim - 1 if turned[1] else 0
    return lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((), ())))


def _plus_product(
    c: Array, a: Array, b: Array, beta: float = 1, alpha: float = 1, turned: Sequence[bool] = (False, False)
) -> Array:
    product = _product(a, b, turned)
    return (c if beta == 1 else beta * c) + (product if alpha == 1 else alpha * product)


PRODUCTS: dict[str, Callable[..., Array]] = {
    "mv": _product, "mm": _product, "dot": _product, "addmm": _plus_product, "addmv": _plus_product,
}  # fmt: skip

SAME = (  # JAX's name is torch's
    "abs acos acosh asin asinh atan atan2 atanh ceil cos cosh exp exp2 expm1 floor floor_divide isinf isnan "
    "log log10 log1p log2 logical_and logical_not logical_or logical_xor maximum minimum reciprocal remainder round "
    "sin sinh sqrt tan tanh trunc where"
)


def _sign(a: Array) -> Array:
    return ((a > 0).astype(jnp.int8) - (a < 0).astype(jnp.int8)).astype(a.dtype)  # 0 of NaN


def _power(a: Array, b: Array) -> Array:
    """Roots are torch's: of -inf there is none, where the standard's power has inf."""
    if isinstance(b, float) and abs(b) == 0.5:
        return jnp.sqrt(a) if b > 0 else lax.rsqrt(a)
    return a**b


def _quotient(a: Array, b: Array, rounding_mode: str | None = None) -> Array:
    quotient = a / b
    return {None: lambda q: q, "floor": jnp.floor, "trunc": jnp.trunc}[rounding_mode](quotient)


def _clamp(a: Array, least: Any = None, most: Any = None) -> Array:
    a = a if least is None else jnp.maximum(a, least)
    return a if most is None else jnp.minimum(a, most)


def _cast(a: Array, dtype: Any = None) -> Array:
    return a if dtype is None else a.astype(dtype)


TABLE: dict[str, Callable[..., Any]] = {
    **PRODUCTS,
    "getitem": operator.getitem,
    **{name: getattr(jnp, name) for name in SAME.split()},
    # of numbers
    "add": lambda a, b, alpha=1: a + (b if alpha == 1 else alpha * b),
    "sub": lambda a, b, alpha=1: a - (b if alpha == 1 else alpha * b),
    "rsub": lambda a, b, alpha=1: b - (a if alpha == 1 else alpha * a),
    "mul": operator.mul, "div": _quotient, "neg": operator.neg, "pow": _power,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "bitwise_not": operator.invert,
    "sign": _sign, "sgn": _sign, "clamp": _clamp, "clamp_min": _clamp,
    "clamp_max": lambda a, most: jnp.minimum(a, most),
    "relu": lambda a: jnp.maximum(a, 0), "rsqrt": lax.rsqrt, "sigmoid": jax.nn.sigmoid, "erf": jax.scipy.special.erf,
    "masked_fill": lambda a, mask, value: jnp.where(mask, value, a),
    # of many numbers one
    "sum": _reduced(jnp.sum), "mean": _reduced(jnp.mean), "prod": _reduced(jnp.prod), "amax": _reduced(jnp.max),
    "amin": _reduced(jnp.min), "any": _reduced(jnp.any), "all": _reduced(jnp.all),
    "argmax": _reduced(jnp.argmax), "argmin": _reduced(jnp.argmin),
    "max": _extreme(jnp.max, jnp.argmax), "min": _extreme(jnp.min, jnp.argmin),
    "var": _variance, "linalg_vector_norm": _norm, "norm": _norm,
    "cumsum": lambda a, axis, dtype=None: jnp.cumsum(a, axis, dtype), "sort": _sorted,
    # of another shape
    "t": lambda a: a.T, "transpose": jnp.swapaxes, "permute": jnp.transpose,
    "view": jnp.reshape, "_unsafe_view": jnp.reshape, "expand": places.expand,
    "unsqueeze": jnp.expand_dims, "squeeze": places.squeeze, "flip": jnp.flip,
    "diagonal": lambda a, offset=0, first=0, second=1: jnp.diagonal(a, offset, first, second),
    "cat": lambda parts, axis=0: jnp.concatenate([part for part in parts if part.shape != (0,)], axis),
    "stack": jnp.stack, "split": places.split, "split_with_sizes": places.split,
    "unbind": lambda a, axis=0: [lax.index_in_dim(a, k, axis, keepdims=False) for k in range(a.shape[axis])],
    # parts, and places
    "slice": places.part, "slice_backward": places.slice_back, "slice_scatter": places.slice_scatter,
    "select": lambda a, axis, k: lax.index_in_dim(a, k, axis, keepdims=False), "select_backward": places.select_back,
    "select_scatter": lambda a, b, axis, k: a.at[places.along(a, axis, k)].set(b),
    "index": lambda a, where: a[places.indices(where)], "index_put": places.put, "_unsafe_index_put": places.put,
    "_unsafe_index": lambda a, where: a[places.indices(where)],
    "index_select": lambda a, axis, where: jnp.take(a, where, axis),
    "gather": lambda a, axis, where: a[places.grid(axis, where)],
    "scatter": places.scattered,
    "scatter_add": lambda a, axis, where, values: places.scattered(a, axis, where, values, True),
    "as_strided": places.strided, "as_strided_scatter": places.strided_scatter,
    # of classifiers
    "_softmax": lambda a, axis, half: jax.nn.softmax(a, axis),
    "_log_softmax": lambda a, axis, half: jax.nn.log_softmax(a, axis),
    "_softmax_backward_data": lambda g, y, axis, dtype: y * (g - jnp.sum(y * g, axis, keepdims=True)),
    "_log_softmax_backward_data": lambda g, y, axis, dtype: g - jnp.exp(y) * jnp.sum(g, axis, keepdims=True),
    "sigmoid_backward": lambda g, y: g * (1 - y) * y, "tanh_backward": lambda g, y: g * (1 - y * y),
    "threshold_backward": lambda g, a, least: jnp.where(a <= least, 0, g),
    "nll_loss_forward": places.nll, "nll_loss_backward": places.nll_back,
    # of images
    "convolution": images.convolution, "convolution_backward": images.convolution_back,
    "max_pool2d_with_indices": images.max_pool, "max_pool2d_with_indices_backward": images.max_pool_back,
    # of none
    "zeros": places.filled(0), "ones": places.filled(1), "full": places.full,
    "zeros_like": places.like(0), "ones_like": places.like(1),
    "full_like": lambda a, value, dtype=None: jnp.full(a.shape, value, dtype or a.dtype),
    "new_zeros": places.new(0), "new_ones": places.new(1),
    "new_empty_strided": lambda a, shape, stride, dtype=None: jnp.zeros(shape, dtype or a.dtype),
    "new_full": lambda a, shape, value, dtype=None: jnp.full(shape, value, dtype or a.dtype),
    "scalar_tensor": lambda value, dtype=None: places.full((), value, dtype),
    "arange": lambda *ends, dtype=None: jnp.arange(*ends, dtype=dtype),
    # the same
    "copy": lambda a, b: jnp.broadcast_to(b, a.shape).astype(a.dtype),
    "clone": _cast, "alias": _cast, "_to_copy": _cast, "prims.convert_element_type": _cast,
    "bmm": operator.matmul,
}  # fmt: skip
