"""A digest of what is defined, the same in every process, whatever the order of sets and the names of cells."""

from __future__ import annotations

import hashlib
import io
import re
import types
from typing import Any

import cloudpickle
import torch
from torch import Tensor

# What cloudpickle calls a class of ``__main__``, so that it is one class where it comes twice: a random uuid4.
TRACKER = re.compile(rb"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}")
# From Python 3.13 on a class has them: where it stands, and names in the order of a set.
PLACES = {"__firstlineno__", "__static_attributes__"}


def digest_of(made: Any) -> str:
    """16 hexadecimal digits of what is defined: its code and all that it uses by value, but not where it stands."""
    data = _Digester.of(made)
    return hashlib.sha256(TRACKER.sub(b"", data)).hexdigest()[:16]


class _Digester(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles for the sake of a digest: the same in every process, whatever the order of sets and the cells' names."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._tensors: dict[int, tuple[int, Tensor]] = {}  # kept, so that no other gets their address

    @classmethod
    def of(cls, made: Any) -> bytes:
        file = io.BytesIO()
        cls(file).dump(made)
        return file.getvalue()

    def persistent_id(self, part: Any) -> Any:
        """What stands for a part; None where it is pickled as usual."""
        if type(part) in (set, frozenset):
            return "set", sorted(map(self.of, part))
        if type(part) is dict and PLACES & part.keys():
            return "class", {name: value for name, value in part.items() if name not in PLACES}
        if isinstance(part, types.CodeType):
            numbers = part.co_argcount, part.co_posonlyargcount, part.co_kwonlyargcount, part.co_flags
            names = part.co_name, part.co_names, part.co_varnames, part.co_freevars, part.co_cellvars
            return "code", numbers, names, part.co_code, part.co_consts
        if isinstance(part, Tensor) and part.layout == torch.strided:
            if id(part) in self._tensors:
                return "tensor", self._tensors[id(part)][0]
            self._tensors[id(part)] = len(self._tensors), part
            plain = part.detach().cpu().contiguous()
            data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
            return "tensor", str(plain.dtype), tuple(plain.shape), part.requires_grad, hashlib.sha256(data).digest()
        return None
