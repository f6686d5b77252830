"""Randomness is data: everything random in a problem comes from one seed, drawn on the CPU in float64."""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

ENDS = 512  # bytes at either end of an answer that are digested as they are; the words between by their sum


class Witnessed(np.random.Generator):
    """NumPy's generator, every answer of which goes into a running digest.

    A number's bytes are hashed at its ends and summed between: a hash of all would cost as much as drawing them. What
    was drawn, in which order, is also fixed by where the stream stands, which goes into the digest, too.
    """

    def __init__(self, seed: Any, digest: Any) -> None:
        super().__init__(np.random.PCG64(seed))
        self.digest = digest

    def witness(self, name: str, answer: Any) -> None:
        """Take an answer into the digest."""
        array = np.ascontiguousarray(answer)
        place = self.bit_generator.state["state"]["state"] % 2**64
        self.digest.update(f"{name} {array.dtype.str} {array.shape} {place}".encode())
        if array.dtype.hasobject:
            self.digest.update(repr(answer).encode())
            return
        flat = array.reshape(-1).view(np.uint8)
        self.digest.update(flat[:ENDS])
        self.digest.update(flat[-ENDS:])
        words = flat[: len(flat) // 8 * 8].view(np.uint64)
        self.digest.update(np.add.reduce(words).tobytes())


def _witnessed(name: str) -> Callable[..., Any]:
    method = getattr(np.random.Generator, name)

    @functools.wraps(method)
    def answer(self: Witnessed, *arguments: Any, **named: Any) -> Any:
        found = method(self, *arguments, **named)
        self.witness(name, [*arguments, *named.values()][0] if found is None else found)  # None: drawn in place
        return found

    return answer


for _name in dir(np.random.Generator):
    if not _name.startswith("_") and _name not in ("bit_generator", "spawn"):
        setattr(Witnessed, _name, _witnessed(_name))


@dataclass
class Draw:
    """What a problem is built with: random numbers from a seed, and the way of its data to device and dtype.

    Draws are float64 tensors on the CPU whatever the run's device and dtype, so that a seed means the same problem
    everywhere. ``put`` hands finished data over: call it last, on everything that f and g read.

    Parameters
    ----------
    seed
        A whole number from 0 on.
    device, dtype
        Where, and in which floating-point type, ``put`` places data.
    data, running
        The harness's: what was put so far, and the running digest of what was drawn.
    """

    seed: int
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float64
    data: list[Tensor] = field(default_factory=list)  # what was put: the problem's own memory
    running: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=8), repr=False)

    def __post_init__(self) -> None:
        # PCG64, as np.random.default_rng(seed); for protocols that are stated in NumPy's terms
        self.numpy: np.random.Generator = Witnessed(self.seed, self.running)

    @property
    def digest(self) -> str:
        """Digest of all that was drawn so far, children's draws included, in the order of drawing: on any machine the
        same for a problem and a seed, whatever the device and dtype."""
        return str(self.running.hexdigest())

    def child(self, name: str) -> Draw:
        """An independent draw that depends on (seed, ``name``) only: a new one does not disturb the others."""
        child = Draw(self.seed, self.device, self.dtype, self.data, self.running)
        child.numpy = Witnessed([self.seed, zlib.crc32(name.encode())], self.running)
        return child

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, of the ``shape`` given."""
        return torch.from_numpy(self.numpy.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers in [``low``, ``high``), of the ``shape`` given."""
        return torch.from_numpy(self.numpy.uniform(low, high, shape))

    def permutation(self, n: int) -> Tensor:
        """A permutation of 0..n-1, int64 of shape (n,)."""
        return torch.from_numpy(self.numpy.permutation(n))

    def place(self, tensor: Tensor) -> Tensor:
        """The ``tensor``, in its shape, on the run's device; floating-point numbers in the run's dtype. ``put``
        remembers it, too."""
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)

    @overload
    def put(self, one: Any, /) -> Tensor: ...
    @overload
    def put(self, one: Any, two: Any, /, *more: Any) -> tuple[Tensor, ...]: ...
    def put(self, *arrays: Any) -> Tensor | tuple[Tensor, ...]:
        """The ``arrays``, each in its shape, on the run's device; floating-point numbers in the run's dtype, whole
        numbers and booleans kept. One tensor for one array, a tuple for several."""
        placed = [self.place(torch.as_tensor(array)) for array in arrays]
        self.data.extend(placed)
        return placed[0] if len(placed) == 1 else tuple(placed)
