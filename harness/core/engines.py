"""The engines: how the steps of a solver are run. Which one is part of an experiment's key; all give the same numbers.

eager: ``torch.autograd.grad``, the default. functional: ``torch.func``, which may stand inside ``torch.func.vmap``.
compiled: a step is recorded as a graph and compiled by torch's inductor. compiled_oracle: the oracle's answers are
compiled and the solver's own arithmetic is not, for steps that are too long for the other. cuda_graph: a recorded step
is captured as a CUDA graph. jax: a recorded step is lowered to JAX and all steps from look to look are made in few
calls, on the CPU (``jaxed``). batched: a recorded step, for all seeds at once (``run.batched``). in_process: eager, in
the process that asks, whose other work would spoil the seconds, so there are none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import derive, functional
from .errors import Unsupported
from .problem import Problem
from .solver import Solver
from .spec import missing

LONGEST = 1500  # operations in a graph: BOME has 20 for an inner step, and more than this takes minutes to compile


def derivatives(engine: str, watch: Any = None) -> derive.Derivatives:
    """What an oracle differentiates with under an engine."""
    if engine == "compiled_oracle":
        from .answers import Answers  # as in ``driven``

        return Answers(compile_graph, watch)
    return functional if engine == "functional" else derive


def driven(engine: str, solver: Solver, problem: Problem, watch: Any = None) -> Any:
    """The solver as it is run under an engine: itself, or one whose steps are graphs (see ``traced.Traced``)."""
    if engine in ("eager", "functional", "compiled_oracle", "in_process"):
        return solver
    if engine == "jax":
        if lacks := missing(engine):
            raise Unsupported(lacks)
        if (device := problem.x0.device).type != "cpu":
            raise Unsupported(f"the engine jax runs on the CPU, and this run is on {device}")
        from .jaxed import Jaxed

        return Jaxed(solver, problem, watch)
    from .traced import Traced  # recording needs parts of torch that take seconds to import

    if engine == "cuda_graph" and problem.x0.device.type != "cuda":
        raise Unsupported(f"the engine cuda_graph needs a CUDA device, and this run is on {problem.x0.device}")
    return Traced(solver, problem, _captured if engine == "cuda_graph" else _compiled, watch)


def _compiled(recording: Any) -> Any:
    if (n := len(recording.graph.graph.nodes)) > LONGEST:
        raise Unsupported(f"a step of {n} operations would compile for minutes; --engine compiled_oracle does not")
    return compile_graph(recording.graph, recording.inputs)


def compile_graph(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
    """A graph of tensor operations compiled for inputs of these shapes; ``Unsupported`` where there is no compiler."""
    import torch._inductor
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()  # type: ignore[no-untyped-call, unused-ignore]
    except InvalidCxxCompiler:
        raise Unsupported("the compiled engines need a C++ compiler, and this machine has none") from None
    return torch._inductor.compile(graph, [*inputs])


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
