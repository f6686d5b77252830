"""What becomes of a module's random and batch-dependent layers, which a problem cannot use as they are, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm

BatchNorm = Literal["checked", "as is", "batch"]
Dropout = Literal["off", "seeded"]


def ready(module: nn.Module, batch_norm: BatchNorm, dropout: Dropout) -> nn.Module:
    """The module (changed in place) as in ``eval()``, but for what was asked for."""
    module.eval()
    for layer in module.modules():
        _decompose_weight_norm(layer)
        if dropout == "seeded" and _is_random(layer):
            layer.training = True
        if batch_norm == "batch" and isinstance(layer, _BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return module


def notes(name: str, module: nn.Module, batch_norm: BatchNorm, dropout: Dropout = "off") -> Iterator[str]:
    """Sentences on dropout and batch norm of a module called ``name``.

    ValueError for batch norm that has never met data: in ``eval()`` it normalises nothing. "as is" lets it pass.
    """
    if random := _named(module, _is_random):
        if dropout == "seeded":
            yield f"{name}: dropout draws one mask for each step ({random}), the same for every solver"
        else:
            yield f"{name}: dropout is off ({random}), as in eval()"
    if batch_norm == "batch":
        if taken := _named(module, lambda layer: isinstance(layer, _BatchNorm)):
            yield (
                f"{name}: batch norm takes the mean and variance of the rows at hand ({taken}); its running ones are "
                "as they came, in state dicts, too: let data pass in train() before eval() is used"
            )
        return
    if fresh := _named(module, _is_fresh):
        if batch_norm == "checked":
            raise ValueError(
                f"{name}: batch norm that has never met data normalises nothing in eval(): {fresh}; "
                "let it meet some first (module.train(), then module(inputs) a few times under torch.no_grad()), put "
                "GroupNorm in its place, or say batch_norm='as is'"
            )
        yield f"{name}: batch norm has never met data and normalises nothing (mean 0, variance 1): {fresh}"
    if known := _named(module, lambda layer: _keeps(layer) and not _is_fresh(layer)):
        yield f"{name}: batch norm uses the running mean and variance that it came with: {known}"
    if taken := batch_statistics(module):
        yield (
            f"{name}: batch norm without running statistics takes those of all rows at hand ({taken}): f and g are no "
            "sums over rows, so there are no minibatches"
        )


def batch_statistics(module: nn.Module) -> str:
    """The layers that mix the rows of a batch even in ``eval()``, so that a loss is no sum over rows."""
    return _named(module, lambda layer: isinstance(layer, _BatchNorm) and layer.running_mean is None)


class _Composed(nn.Module):
    """Weight norm out of elementary operations, g * v / |v|.

    torch's own kernel (``torch._weight_norm``, 2.15) takes |v| for a constant in its second derivative.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / torch.norm_except_dim(v, 2, self.dim))


class _ComposedHook(WeightNorm):
    """The same for the older kind, which works out its weight before each forward pass."""

    def compute_weight(self, module: nn.Module) -> Any:
        return _Composed(self.dim)(getattr(module, self.name + "_g"), getattr(module, self.name + "_v"))


def _decompose_weight_norm(layer: nn.Module) -> None:
    if isinstance(layer, ParametrizationList):
        for i, part in enumerate(layer):
            if isinstance(part, _WeightNorm):
                layer[i] = _Composed(part.dim)
    for key, hook in layer._forward_pre_hooks.items():
        if type(hook) is WeightNorm:
            layer._forward_pre_hooks[key] = _ComposedHook(hook.name, hook.dim)


def _keeps(layer: nn.Module) -> bool:
    return isinstance(layer, _NormBase) and layer.running_mean is not None and layer.running_var is not None


def _is_fresh(layer: nn.Module) -> bool:
    if not _keeps(layer):
        return False
    mean, variance, batches = (getattr(layer, key) for key in ("running_mean", "running_var", "num_batches_tracked"))
    return not batches and bool((mean == 0).all() and (variance == 1).all())


def _is_random(layer: nn.Module) -> bool:
    """Dropout by any name, inside attention or between layers of a recurrent network, too; leaky units of random
    slope."""
    if isinstance(layer, nn.RReLU):
        return layer.lower != layer.upper
    kind, strength = type(layer).__name__.lower(), getattr(layer, "dropout", 0.0)
    if isinstance(layer, nn.RNNBase) and layer.num_layers == 1:
        return False
    if isinstance(strength, float | int) and strength > 0:
        return True
    given: Any = next((getattr(layer, key) for key in ("p", "drop_prob") if hasattr(layer, key)), None)
    return ("drop" in kind or "stochastic" in kind) and (given is None or bool(given))


def _named(module: nn.Module, holds: Callable[[nn.Module], bool]) -> str:
    found = [f"{name or 'itself'} {type(layer).__name__}" for name, layer in module.named_modules() if holds(layer)]
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
