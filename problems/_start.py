"""A start moved at random: instances of a problem on which the seed changes nothing else."""

import torch
from torch import Tensor

from bilevelbench import Draw


def moved(rng: Draw, start: tuple[float, ...], jitter: float) -> Tensor:
    """The start with normal noise of standard deviation ``jitter`` in every coordinate; for 0 nothing is drawn."""
    if not 0 <= jitter < 1e3:
        raise ValueError(f"jitter={jitter} is not valid; it is a number from 0 on")
    point = torch.tensor(start, dtype=torch.float64)
    return point + jitter * rng.normal(len(start)) if jitter else point
