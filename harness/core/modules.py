"""A problem out of two ``torch.nn.Module`` and two loaders, for people who have a training script and no formula."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from .draw import Draw
from .evaluation import BatchNorm, Dropout, batch_statistics, notes, ready
from .flat import Flat
from .forward import Settings, drawn_rows, go_together, mean_in_chunks, seeded
from .loading import Rows, Streamed, rows_of
from .problem import Problem
from .stream import Stream


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
    upper_loader: Any,
    lower_loader: Any,
    upper_loss: Loss,
    lower_loss: Loss,
    *,
    decay: float = 0.0,
    metrics: Callable[[Bound, Bound], Mapping[str, float]] | None = None,
    batch_norm: BatchNorm = "checked",
    dropout: Dropout = "off",
    attention: Literal["as is", "math"] = "as is",
    autocast: Literal["", "bfloat16"] = "",
    rows_per_step: int = 0,
    in_memory: bool = True,
    chunk: int = 0,
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
        A ``DataLoader``, a ``Dataset`` or any iterable of batches; a batch is a tuple of columns, a dictionary or one
        tensor, with the same number of rows in all of its tensors.
    upper_loss, lower_loss
        ``(upper, lower, *batch) -> numbers``, one for each row, shape (rows,), or their mean: the columns of a tuple
        one by one, or else the dictionary or the tensor. ``upper`` and ``lower`` are the modules with the parameters of
        a point, called as usual (``Bound``).
    decay
        Weight of |y|^2 in g.
    metrics
        ``(upper, lower) -> {name: value}``, figures of your own.
    batch_norm
        "checked": the running mean and variance that it came with, and ValueError where it has none yet and so would
        normalise nothing ("as is" lets that pass). "batch": those of the rows at hand, and then f and g are no finite
        sums and have no minibatches of a solver's own (n_f = n_g = 1).
    dropout
        "off", or "seeded": one mask for each step, a function of seed and step. It needs ``rows_per_step``.
    attention
        "math" has torch's scaled dot products take the kernel that can be differentiated twice.
    autocast
        "bfloat16" has the modules run in it (``torch.autocast``), x and y in float32.
    rows_per_step
        So many rows of either loader make f and g of a step, new ones at each step and the same for every solver
        (``Problem.stream``). There is then no one Phi: runs are judged by ``metrics`` alone.
    in_memory
        False reads rows by their number when they are asked for; it needs ``Dataset``s and ``rows_per_step``.
    chunk
        Rows of one forward pass at most. More are added up, and each part is worked out anew for its derivatives
        (``torch.utils.checkpoint``): the memory of ``chunk`` rows for the time of two forward passes. Losses have to be
        means over rows, which batch norm "batch" is not.
    fields
        Other fields of ``Problem``.

    Raises
    ------
    TypeError
        Where rng, a module, a loss or decay is something else.
    ValueError
        For a negative decay; where a module has nothing to train or a loader nothing to give or no end, for a parameter
        in both modules, a lazy one that has not met data, fresh batch norm, and settings that do not go together.

    Notes
    -----
    Loaders are read once, here, to their end, and one that shuffles in its data set's order: the harness draws
    minibatches itself. Modules start as they are: make them under ``torch.manual_seed(rng.seed)``. They are copied;
    parameters that need no gradient stay constants, and what one module ties stays tied. A parameter belongs to one
    level: what both losses need is handed to them by one module.

    Modules are used as in ``eval()`` but for what is asked for, and ``Problem.notes`` says what that means for them.
    """
    _right(rng, {"upper_module": upper_module, "lower_module": lower_module}, upper_loss, lower_loss, decay)
    how = Settings(attention, autocast)
    go_together(dropout, rows_per_step, in_memory, chunk, batch_norm, metrics)
    said = (
        *notes("upper_module", upper_module, batch_norm, dropout),
        *notes("lower_module", lower_module, batch_norm, dropout),
        *how.notes(),
        *fields.pop("notes", ()),
    )
    _told_apart(upper_module, lower_module)
    upper = _Shape(rng, upper_module, "upper_module", batch_norm, dropout)
    lower = _Shape(rng, lower_module, "lower_module", batch_norm, dropout)
    above = rows_of(rng, upper_loader, "upper_loader", in_memory)
    below = rows_of(rng, lower_loader, "lower_loader", in_memory)

    def mean(loss: Loss, data: Rows | Streamed, x: Tensor, y: Tensor, rows: Any) -> Tensor:
        def of(some: Any) -> Tensor:
            with how(x):
                return loss(upper.bind(x), lower.bind(y), *data(some)).mean()

        return mean_in_chunks(of, rows, len(data), chunk)

    def f(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        return mean(upper_loss, above, x, y, rows)

    def g(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        loss = mean(lower_loss, below, x, y, rows)
        return loss + decay * y @ y if decay else loss

    sums = not (batch_statistics(upper.module) or batch_statistics(lower.module))
    n_f, n_g = (len(above), len(below)) if sums and not rows_per_step else (1, 1)
    if rows_per_step:
        drawn = drawn_rows(rng, rows_per_step, len(above), len(below))
        fields["stream"] = Stream(drawn)
        f, g = seeded(f, rng.seed, lambda: drawn(0)[0]), seeded(g, rng.seed, lambda: drawn(0)[1])
    figures = None if metrics is None else lambda x, y: metrics(upper.bind(x, True), lower.bind(y, True))
    return Problem(
        f=f, g=g, x0=upper.start, y0=lower.start, metrics=figures, notes=said,
        modules=lambda x, y: (upper.state_dict(x), lower.state_dict(y)), n_f=n_f, n_g=n_g, **fields,
    )  # fmt: skip


def _right(rng: Any, modules: Mapping[str, Any], upper_loss: Any, lower_loss: Any, decay: Any) -> None:
    """Refuse what would fail in the midst of a run, or far from here."""
    if not isinstance(rng, Draw):
        raise TypeError(f"rng={rng!r:.80} is not valid; it is the Draw that a problem is built with, such as Draw(0)")
    for name, module in modules.items():
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name}={module!r:.80} is not valid; it is a torch.nn.Module")
    for name, loss in (("upper_loss", upper_loss), ("lower_loss", lower_loss)):
        if not callable(loss):
            raise TypeError(f"{name}={loss!r:.80} is not valid; it is a function (upper, lower, *batch) -> numbers")
    if isinstance(decay, bool) or not isinstance(decay, Real):
        raise TypeError(f"decay={decay!r:.80} is not valid; it is a number")
    if not float(decay) >= 0:
        raise ValueError(f"decay={decay} is not valid; it is at least 0")


def _told_apart(upper: nn.Module, lower: nn.Module) -> None:
    """ValueError where a trained parameter is in both modules, or two parameters of one lie in one memory."""
    named = {"upper_module": upper, "lower_module": lower}
    for level, module in named.items():
        for name, parameter in [*module.named_parameters(), *module.named_buffers()]:
            if is_lazy(parameter):
                raise ValueError(
                    f"{level}'s {name!r} is lazy and has no shape yet: let one batch pass through it first "
                    "(module(inputs) under torch.no_grad())"
                )
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

    def __init__(self, rng: Draw, module: nn.Module, name: str, batch_norm: BatchNorm, dropout: Dropout) -> None:
        trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError(f"{name} has no parameters that need a gradient")
        self.module = ready(_copied(module), batch_norm, dropout)
        self._judged = ready(_copied(module), batch_norm, "off") if dropout == "seeded" else self.module
        self._given = _copied(module) if batch_norm == "batch" else self.module  # whose state dict has all buffers
        rest: dict[str, Tensor] = {k: p for k, p in self.module.named_parameters() if not p.requires_grad}
        rest |= dict(self.module.named_buffers())
        self._names = list(trained)
        self._flat = Flat(*(p.shape for p in trained.values()))
        self._constants = {k: rng.put(t.detach().clone()) for k, t in rest.items()}
        self.start = Flat.join(p.detach().cpu().double() for p in trained.values())

    def bind(self, vector: Tensor, judged: bool = False) -> Bound:
        """The module at a point; ``judged``: as metrics see it, without dropout."""
        parts = dict(zip(self._names, self._flat.split(vector), strict=True))
        return Bound(self._judged if judged else self.module, parts, self._constants)

    def state_dict(self, vector: Tensor) -> dict[str, Any]:
        """The module's own, with the parameters of a point."""
        module = _copied(self._given)
        with torch.no_grad():
            for name, part in zip(self._names, self._flat.split(vector), strict=True):
                module.get_parameter(name).copy_(part)
        return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in module.state_dict().items()}


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of what a layer has worked out of its parameters and keeps (the old ``weight_norm``)."""
    kept = (value for layer in module.modules() for value in vars(layer).values() if isinstance(value, Tensor))
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in kept if not value.is_leaf})
