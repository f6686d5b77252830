"""A problem out of two ``torch.nn.Module`` and two loaders, for people who have a training script and no formula."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .draw import Draw
from .flat import Flat
from .problem import Problem


class Bound:
    """A module with the parameters of one point: called like the module. ``parameters`` has them by name."""

    def __init__(self, module: nn.Module, parameters: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
        self._module, self._constants = module, constants
        self.parameters = parameters

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The module's forward pass."""
        return functional_call(self._module, {**self._constants, **self.parameters}, arguments, named)


Loss = Callable[..., Tensor]


def from_modules(
    rng: Draw,
    upper_module: nn.Module,
    lower_module: nn.Module,
    upper_loader: Iterable[Sequence[Tensor]],
    lower_loader: Iterable[Sequence[Tensor]],
    upper_loss: Loss,
    lower_loss: Loss,
    *,
    decay: float = 0.0,
    metrics: Callable[[Bound, Bound], Mapping[str, float]] | None = None,
    **fields: Any,
) -> Problem:
    """The problem whose x and y are the parameters of two modules.

    f = mean of ``upper_loss(upper, lower, *batch)`` over the rows of ``upper_loader``, g likewise of the lower ones,
    plus ``decay`` |y|^2. ``upper`` and ``lower`` are the modules, called as usual (``Bound``). ``batch`` is what the
    loader yields, (input, target) or more columns, such as the rows' numbers; a loss answers one number per row or
    their mean. ``metrics(upper, lower)`` are figures of your own; ``fields`` are other fields of ``Problem``.

    Loaders are read once, here, to their end; the harness draws minibatches itself, so a loader need not shuffle, and
    one that does makes another problem each time. The modules are copied and used as in ``eval()``: no dropout, batch
    norm with its running statistics. Parameters that need no gradient stay constants. Modules start as they are:
    make them under ``torch.manual_seed(rng.seed)``.

    Raises ValueError where a module has nothing to train or a loader nothing to give.
    """
    upper, lower = _Shape(rng, upper_module, "upper_module"), _Shape(rng, lower_module, "lower_module")
    above, below = _columns(rng, upper_loader, "upper_loader"), _columns(rng, lower_loader, "lower_loader")

    def f(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        return upper_loss(upper.bind(x), lower.bind(y), *(column[rows] for column in above)).mean()

    def g(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        loss = lower_loss(upper.bind(x), lower.bind(y), *(column[rows] for column in below)).mean()
        return loss + decay * y @ y if decay else loss

    figures = None if metrics is None else lambda x, y: metrics(upper.bind(x), lower.bind(y))
    return Problem(
        f=f, g=g, x0=upper.start, y0=lower.start, n_f=len(above[0]), n_g=len(below[0]), metrics=figures, **fields
    )


class _Shape:
    """How a flat vector becomes a module's parameters, and the vector that the module starts from."""

    def __init__(self, rng: Draw, module: nn.Module, name: str) -> None:
        trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError(f"{name} has no parameters that need a gradient")
        rest = {k: p for k, p in module.named_parameters() if not p.requires_grad} | dict(module.named_buffers())
        self._module = copy.deepcopy(module).eval()
        self._names = list(trained)
        self._flat = Flat(*(p.shape for p in trained.values()))
        self._constants = {k: rng.put(t.detach().clone()) for k, t in rest.items()}
        self.start = Flat.join(p.detach().cpu().double() for p in trained.values())

    def bind(self, vector: Tensor) -> Bound:
        return Bound(self._module, dict(zip(self._names, self._flat.split(vector), strict=True)), self._constants)


def _columns(rng: Draw, loader: Iterable[Sequence[Tensor]], name: str) -> list[Tensor]:
    """All batches of a loader, column by column."""
    batches = [tuple(map(torch.as_tensor, batch)) for batch in loader]
    if not batches or not batches[0] or not len(batches[0][0]):
        raise ValueError(f"{name} yields no data")
    if len({len(batch) for batch in batches}) > 1:
        raise ValueError(f"{name} yields batches with different numbers of columns")
    columns = [torch.cat(column) for column in zip(*batches, strict=True)]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"{name} yields columns of different lengths: {[len(column) for column in columns]}")
    return [rng.put(column) for column in columns]
