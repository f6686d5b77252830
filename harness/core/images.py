"""Torch's convolutions and pooling of images in JAX: a part of ``aten``. Images are (rows, channels, height, width)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .errors import Unsupported
from .places import Array

Sizes = Sequence[int]


def convolution(
    x: Array, w: Array, bias: Array | None, stride: Sizes, padding: Sizes, dilation: Sizes, transposed: bool,
    extra: Sizes, groups: int,
) -> Array:  # fmt: skip
    """A convolution; a transposed one is the transpose of a convolution as a linear map."""

    def plain(x: Array) -> Array:
        edges = [(p, p) for p in padding]
        return lax.conv_general_dilated(x, w, stride, edges, rhs_dilation=dilation, feature_group_count=groups)

    if transposed:
        sizes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, extra, strict=True)
        sides = [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in sizes]
        out = jax.linear_transpose(plain, jnp.zeros((x.shape[0], w.shape[1] * groups, *sides), x.dtype))(x)[0]
    else:
        out = plain(x)
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.ndim - 2))


def convolution_back(
    g: Array, x: Array, w: Array, bias: Any, stride: Sizes, padding: Sizes, dilation: Sizes, transposed: bool,
    extra: Sizes, groups: int, wanted: Sequence[bool],
) -> tuple[Array, ...]:  # fmt: skip
    """The gradients of ``convolution`` in x, w and bias."""

    def forward(x: Array, w: Array) -> Array:
        return convolution(x, w, None, stride, padding, dilation, transposed, extra, groups)

    return (*jax.vjp(forward, x, w)[1](g), jnp.sum(g, (0, *range(2, g.ndim))))


def max_pool(
    x: Array, kernel: Sizes, stride: Sizes = (), padding: Sizes = (0, 0), dilation: Sizes = (1, 1), ceil: bool = False
) -> tuple[Array, Array]:
    """The largest entry of each window, and where in its image it lies."""
    if any(padding) or any(d != 1 for d in dilation) or ceil:
        raise Unsupported("it pools with padding, dilation or rounding up")
    (h, w), (sh, sw) = kernel, stride or kernel
    high, wide = (x.shape[2] - h) // sh + 1, (x.shape[3] - w) // sw + 1
    windows = jnp.stack([
        x[:, :, i : i + sh * (high - 1) + 1 : sh, j : j + sw * (wide - 1) + 1 : sw] for i in range(h) for j in range(w)
    ])  # fmt: skip
    which = jnp.argmax(windows, 0)
    rows, columns = jnp.arange(high)[:, None] * sh + which // w, jnp.arange(wide) * sw + which % w
    return jnp.take_along_axis(windows, which[None], 0)[0], rows * x.shape[3] + columns


def max_pool_back(
    g: Array, x: Array, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool, where: Array
) -> Array:
    """The gradient of ``max_pool``."""
    images = x.shape[0] * x.shape[1]
    zeros = jnp.zeros((images, x.shape[2] * x.shape[3]), g.dtype)
    at = jnp.arange(images)[:, None], where.reshape(images, -1)
    return zeros.at[at].add(g.reshape(images, -1)).reshape(x.shape)
