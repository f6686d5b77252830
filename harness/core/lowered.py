"""A recorded graph as a function of JAX arrays, and what stands between torch and JAX."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_aggregate

from .errors import Unsupported
from .traced import lift

COPIED = 1 << 16  # bytes: to hand over memory takes 10 us
PLACES = ("device", "layout", "pin_memory", "memory_format", "non_blocking")  # where a tensor lies


@functools.cache
def jax() -> Any:
    """JAX, its CPU made ready: as many threads work as torch has, and a call returns when its work is done.

    Settings that JAX reads at its start are set for that moment alone; where somebody has started it before they are
    as they were. Never before a fork: what JAX starts does not survive one.
    """
    import jax

    threads = torch.get_num_threads()
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""]
    given = {"NPROC": str(threads), "XLA_FLAGS": " ".join(filter(None, flags))}
    before, waits = {name: os.environ.get(name) for name in given}, jax.config.read("jax_cpu_enable_async_dispatch")
    os.environ |= given
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.local_devices(backend="cpu")
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", waits)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return jax


@contextlib.contextmanager
def here() -> Iterator[Any]:
    """JAX on the CPU and with float64, which it has not by itself, for a while."""
    made = jax()
    with made.enable_x64(True), made.default_device(_cpu()):
        yield made


@functools.cache
def _cpu() -> Any:
    return jax().local_devices(backend="cpu")[0]


def array_of(tensor: Any) -> Any:
    """A tensor as JAX takes it: its memory, not a copy."""
    return tensor.detach().contiguous().numpy() if isinstance(tensor, Tensor) else tensor


def tensor_of(array: Any) -> Tensor:
    """What JAX answered, as a tensor: its memory, or a copy where that takes less time."""
    if isinstance(array, Tensor):
        return array
    return torch.from_dlpack(array) if array.nbytes > COPIED else torch.from_numpy(np.array(array))


def name_of(operation: Any) -> str:
    """What an operation is called in ``aten``: a copy of a part of a tensor is one with the part."""
    if operation is operator.getitem:
        return "getitem"
    name = str(getattr(operation, "overloadpacket", operation)).removeprefix("aten.")
    return name if name == "_to_copy" else name.removesuffix("_copy")


def known(graph: GraphModule, inputs: Sequence[Tensor]) -> tuple[GraphModule, list[Tensor]]:
    """The graph in operations that ``aten`` knows, none of which changes a tensor in place; and what it takes besides,
    last. ``Unsupported`` where there is no such graph."""
    from .aten import TABLE

    def strange(graph: GraphModule) -> list[Any]:
        asked = {node.target: name_of(node.target) for node in graph.graph.nodes if node.op == "call_function"}
        return sorted(str(operation) for operation, name in asked.items() if name not in TABLE)

    if not strange(graph):
        return graph, []
    ways: dict[Any, Any] = {
        operation: way for operation, way in decomposition_table.items() if name_of(operation) not in TABLE
    }
    with torch.no_grad():
        graph = make_fx(torch.func.functionalize(graph, remove="mutations_and_views"), ways)(
            *[tensor.clone() for tensor in inputs]
        )
    more = lift(graph)
    if lost := strange(graph):
        raise Unsupported(f"it takes {', '.join(lost)}, which the engine jax does not know")
    return graph, more


def lowered(graph: GraphModule) -> Callable[..., list[Any]]:
    """A graph of known operations as a function of JAX arrays."""
    from .aten import PRODUCTS, TABLE
    from .places import DTYPES

    def step(*inputs: Any) -> list[Any]:
        values, given = dict[Any, Any](), iter(inputs)

        def value(part: Any) -> Any:
            return values[part] if isinstance(part, Node) else DTYPES[part] if isinstance(part, torch.dtype) else part

        for node in graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "output":
                break
            else:
                name, args = name_of(node.target), node.args
                named = {word: given for word, given in node.kwargs.items() if word not in PLACES}
                if name in PRODUCTS:
                    args, named["turned"] = _straight(args)
                values[node] = TABLE[name](*map_aggregate(args, value), **map_aggregate(named, value))
        return list(map_aggregate(node.args[0], value))

    return step


def _straight(args: Sequence[Any]) -> tuple[Sequence[Any], list[bool]]:
    """The two factors last in ``args`` as they are before they are transposed, once or more, and which of them are."""

    def peeled(part: Any) -> tuple[Any, bool]:
        turned = False
        while part.op == "call_function" and (
            name_of(part.target) == "t"
            or (name_of(part.target), *part.args[1:]) in (("transpose", 0, 1), ("permute", [1, 0]))
        ):
            part, turned = part.args[0], not turned
        return part, turned

    factors, turns = zip(*map(peeled, args[-2:]), strict=True)
    return [*args[:-2], *factors], list(turns)
