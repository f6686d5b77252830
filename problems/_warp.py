"""Images turned, moved and scaled, with second derivatives: torch's grid_sample has none."""

from __future__ import annotations

import torch
from torch import Tensor

SHARP = -0.75  # the constant of bicubic interpolation that torch takes


def warped(images: Tensor, moves: Tensor) -> Tensor:
    """Every image (n, pixels) under every move (m, 4): (m, n, pixels), differentiable by both."""
    return images @ reading(moves, images.shape[1]).mT


def paired(images: Tensor, moves: Tensor, chunk: int = 64) -> Tensor:
    """Every image (n, pixels) under a move of its own (n, 4): (n, pixels)."""
    parts = zip(images.split(chunk), moves.split(chunk), strict=True)
    return torch.cat([(reading(v, a.shape[1]) @ a[:, :, None]).squeeze(2) for a, v in parts])


def reading(moves: Tensor, pixels: int) -> Tensor:
    """The matrices (m, pixels, pixels) by which square images are moved by ``moves`` (m, 4).

    A move is an angle in radians, two shifts (down, right) as shares of the side, and the logarithm of a scale: the
    pixel at position p from the centre is read at R(angle) p / exp(scale) + side * shifts. Bicubic interpolation
    (Keys, IEEE ASSP 1981), once continuously differentiable in the moves; 0 beyond the edge.
    """
    side = round(pixels**0.5)
    if side * side != pixels:
        raise ValueError(f"images of {pixels} pixels are not square")
    at = torch.arange(side).to(moves)
    centre = (side - 1) / 2
    down, right = (at - centre).repeat_interleave(side), (at - centre).repeat(side)
    angle, lower, further, scale = (moves[:, k, None] for k in range(4))
    sine, cosine, small = torch.sin(angle), torch.cos(angle), torch.exp(-scale)
    # by move and pixel: the weight of each row and of each column of the image
    rows = cubic((cosine * down + sine * right) * small + centre + side * lower, at)
    columns = cubic((cosine * right - sine * down) * small + centre + side * further, at)
    return (rows[..., :, None] * columns[..., None, :]).flatten(2)


def cubic(places: Tensor, at: Tensor) -> Tensor:
    """Weights (*places, k) of samples at whole numbers ``at`` (k,) for what lies at ``places``."""
    far = (places[..., None] - at).abs()
    near = ((SHARP + 2) * far - (SHARP + 3)) * far * far + 1
    beyond = ((SHARP * far - 5 * SHARP) * far + 8 * SHARP) * far - 4 * SHARP
    return torch.where(far <= 1, near, torch.where(far < 2, beyond, 0.0))
