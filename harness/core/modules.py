"""A problem out of two ``torch.nn.Module`` and two loaders, for people who have a training script and no formula."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .draw import Draw
from .evaluation import BatchNorm, batch_statistics, notes
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
    batch_norm: BatchNorm = "checked",
    **fields: Any,
) -> Problem:
    """The problem whose x and y are the parameters of two modules.

    f = mean of ``upper_loss(upper, lower, *batch)`` over the rows of ``upper_loader``, g likewise of the lower ones,
    plus ``decay`` |y|^2.

    Parameters
    ----------
    rng
        What the problem is built with: it says which device and dtype the data go to.
    upper_module, lower_module
        Modules whose trained parameters are x, flattened to shape (n_x,), and y, to (n_y,).
    upper_loader, lower_loader
        What yields batches: (input, target), or more columns, such as the rows' numbers; each column a tensor, the same
        number of rows in all of a batch.
    upper_loss, lower_loss
        ``(upper, lower, *batch) -> numbers``, one for each row, shape (rows,), or their mean. ``upper`` and ``lower``
        are the modules with the parameters of a point, called as usual.
    decay
        Weight of |y|^2 in g.
    metrics
        ``(upper, lower) -> {name: value}``, figures of your own.
    batch_norm
        "checked", or "as is": see below.
    fields
        Other fields of ``Problem``.

    Raises
    ------
    ValueError
        Where a module has nothing to train or a loader nothing to give, for a parameter in both modules, and for fresh
        batch norm.

    Notes
    -----
    Loaders are read once, here, to their end; the harness draws minibatches itself, so a loader need not shuffle, and
    one that does makes another problem each time. Modules start as they are: make them under
    ``torch.manual_seed(rng.seed)``. They are copied; parameters that need no gradient stay constants, and what one
    module ties stays tied. A parameter belongs to one level: what both losses need is handed to them by one module.

    Modules are used as in ``eval()``, and ``Problem.notes`` says what that means for them. Dropout is off. Batch norm
    uses its running statistics; where it has none yet it would normalise nothing and is refused, unless ``batch_norm``
    is "as is": let it meet data first. Batch norm that keeps no running statistics uses those of all rows, so f and g
    are no finite sums and have no minibatches (n_f = n_g = 1).
    """
    said = (
        *notes("upper_module", upper_module, batch_norm),
        *notes("lower_module", lower_module, batch_norm),
        *fields.pop("notes", ()),
    )
    _told_apart(upper_module, lower_module)
    upper, lower = _Shape(rng, upper_module, "upper_module"), _Shape(rng, lower_module, "lower_module")
    above, below = _columns(rng, upper_loader, "upper_loader"), _columns(rng, lower_loader, "lower_loader")

    def f(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        return upper_loss(upper.bind(x), lower.bind(y), *(column[rows] for column in above)).mean()

    def g(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        loss = lower_loss(upper.bind(x), lower.bind(y), *(column[rows] for column in below)).mean()
        return loss + decay * y @ y if decay else loss

    figures = None if metrics is None else lambda x, y: metrics(upper.bind(x), lower.bind(y))
    sums = not (batch_statistics(upper_module) or batch_statistics(lower_module))
    return Problem(
        f=f, g=g, x0=upper.start, y0=lower.start, metrics=figures, notes=said,
        modules=lambda x, y: (upper.state_dict(x), lower.state_dict(y)),
        n_f=len(above[0]) if sums else 1, n_g=len(below[0]) if sums else 1, **fields,
    )  # fmt: skip


def _told_apart(upper: nn.Module, lower: nn.Module) -> None:
    """ValueError where a trained parameter is in both modules, or two parameters of one lie in one memory."""
    named = {"upper_module": upper, "lower_module": lower}
    trained = [
        (level, name, parameter)
        for level, module in named.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and parameter.numel()
    ]
    seen: dict[int, tuple[str, str, Tensor]] = {}
    for level, name, parameter in trained:
        where, other, known = seen.setdefault(parameter.data_ptr(), (level, name, parameter))
        if known is parameter and where == level:
            continue
        both = f"{where}'s {other!r} and {level}'s {name!r}"
        if where == level:
            raise ValueError(f"{both} are two parameters in one memory; tie them by assigning one nn.Parameter to both")
        raise ValueError(
            f"{both} are one parameter; it belongs to one level: leave it in the module that trains it, whose output "
            "the losses can hand to the other, or switch requires_grad off to keep it constant"
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

    def state_dict(self, vector: Tensor) -> dict[str, Any]:
        """The module's own, with the parameters of a point."""
        module = copy.deepcopy(self._module)
        with torch.no_grad():
            for name, part in zip(self._names, self._flat.split(vector), strict=True):
                module.get_parameter(name).copy_(part)
        return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in module.state_dict().items()}


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
