"""The engines: how the steps of a solver are run. Which one is part of an experiment's key; all give the same numbers.

eager: ``torch.autograd.grad``, the default. functional: ``torch.func``, which may stand inside ``torch.func.vmap``.
compiled: a step is recorded as a graph and compiled by torch's inductor. cuda_graph: a recorded step is captured as a
CUDA graph. batched: a recorded step, for all seeds at once (``run.batched``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import derive, functional
from .errors import Unsupported
from .problem import Problem
from .solver import Solver

ENGINES = ("eager", "functional", "compiled", "cuda_graph", "batched")


def derivatives(engine: str) -> derive.Derivatives:
    """What an oracle differentiates with under an engine."""
    return functional if engine == "functional" else derive


def driven(engine: str, solver: Solver, problem: Problem, watch: Any = None) -> Any:
    """The solver as it is run under an engine: itself, or one whose steps are graphs (see ``traced.Traced``)."""
    if engine in ("eager", "functional"):
        return solver
    from .traced import Traced  # recording needs parts of torch that take seconds to import

    if engine == "cuda_graph" and problem.x0.device.type != "cuda":
        raise Unsupported(f"the engine cuda_graph needs a CUDA device, and this run is on {problem.x0.device}")
    return Traced(solver, problem, _captured if engine == "cuda_graph" else _compiled, watch)


def _compiled(recording: Any) -> Any:
    import torch._inductor
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return torch._inductor.compile(recording.graph, recording.inputs)
    except InvalidCxxCompiler:
        raise Unsupported("the engine compiled needs a C++ compiler, and this machine has none") from None


def _captured(recording: Any) -> Any:
    """A CUDA graph of a recorded step. Untested: written without a GPU at hand."""
    inputs = [tensor.clone() for tensor in recording.inputs]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(3):  # libraries allocate at their first calls, which cannot be captured
            recording.graph(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        outputs = recording.graph(*inputs)

    def run(*given: Tensor) -> list[Tensor]:
        for into, tensor in zip(inputs, given, strict=True):
            into.copy_(tensor)
        graph.replay()
        return [output.clone() for output in outputs]

    return run
