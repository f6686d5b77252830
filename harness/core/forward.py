"""How a module's forward pass is made: in parts, in which precision, by which kernel, with which masks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from .batches import generator, minibatch
from .draw import Draw


@dataclass(frozen=True)
class Settings:
    """Attention's kernel and the precision of modules; called with a point, the context of a forward pass."""

    attention: str
    autocast: str

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("attention", self.attention, ("as is", "math")),
            ("autocast", self.autocast, ("", "bfloat16")),
        ):
            if value not in valid:
                raise ValueError(f"{name}={value!r} is not valid; it is {' or '.join(map(repr, valid))}")

    @contextlib.contextmanager
    def __call__(self, x: Tensor) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.attention == "math":
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if self.autocast and x.dtype is torch.float32:
                stack.enter_context(torch.autocast(x.device.type, torch.bfloat16))
            yield

    def notes(self) -> Iterator[str]:
        """What a reader has to know of them."""
        if self.attention == "math":
            yield "attention takes the math kernel, which can be differentiated twice; a fused one has other seconds"
        if self.autocast:
            yield "modules run in bfloat16 where points are float32; judged in float64, they run in float64"


def mean_in_chunks(of: Callable[[Any], Tensor], rows: Any, n: int, chunk: int) -> Tensor:
    """The mean over rows, ``of(rows)``, from the means of at most ``chunk`` rows; 0: all in one pass.

    rows: the indices of some of n rows, or None or ``...`` for all. Parts keep no graph: they are worked out anew where
    they are differentiated, twice as well.
    """
    everything = rows is None or rows is ...
    size = n if everything else len(rows)
    if not chunk or size <= chunk:
        return of(... if everything else rows)
    rows = torch.arange(n) if everything else rows
    shares = [checkpoint(of, part, use_reentrant=False) * (len(part) / size) for part in rows.split(chunk)]
    return torch.stack(shares).sum()


def seeded(function: Callable[..., Tensor], seed: int, first: Callable[[], Tensor]) -> Callable[..., Tensor]:
    """A function of (x, y, rows) whose last row is no row but the step: what torch draws is a function of both.

    Asked for no rows, as by who looks at a problem before a run, it takes those of the ``first`` step.
    """

    def at_step(x: Tensor, y: Tensor, rows: Any = ...) -> Tensor:
        rows = first() if rows is ... or rows is None else rows
        *_, step = rows.tolist()
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(int(generator(seed, "masks", step, 0).integers(2**62)))
            return function(x, y, rows[:-1])

    return at_step


def go_together(dropout: str, rows_per_step: int, in_memory: bool, chunk: int, batch_norm: str, metrics: Any) -> None:
    """ValueError for settings that are none or do not go together."""
    if dropout not in ("off", "seeded"):
        raise ValueError(f"dropout={dropout!r} is not valid; it is 'off' or 'seeded'")
    if batch_norm not in ("checked", "as is", "batch"):
        raise ValueError(f"batch_norm={batch_norm!r} is not valid; it is 'checked', 'as is' or 'batch'")
    for name, value in (("rows_per_step", rows_per_step), ("chunk", chunk)):
        if type(value) is not int or value < 0:
            raise ValueError(f"{name}={value!r} is not valid; it is a number of rows, or 0")
    needs = {"dropout='seeded'": dropout == "seeded", "in_memory=False": not in_memory}
    for said in (said for said, asked in needs.items() if asked and not rows_per_step):
        raise ValueError(f"{said} needs rows_per_step, the rows of either loader that make a step's f and g")
    if rows_per_step and metrics is None:
        raise ValueError("rows_per_step needs metrics: f and g change with the step, so there is no one Phi to judge")
    if chunk and batch_norm == "batch":
        raise ValueError("chunk and batch_norm='batch' do not go together: each part would be normalised by itself")


def drawn_rows(rng: Draw, size: int, n_f: int, n_g: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The rows of f and of g at a step, each with the step itself behind them."""
    if size > min(n_f, n_g):
        name, n = min((n_f, "upper_loader"), (n_g, "lower_loader"))[::-1]
        raise ValueError(f"rows_per_step={size} is more than {name} has, {n}")
    seed, device = rng.seed, rng.device

    def rows(step: int) -> tuple[Tensor, Tensor]:
        some = (minibatch(seed, level, step, 0, n, size) for level, n in (("upper", n_f), ("lower", n_g)))
        above, below = (torch.cat([part, torch.tensor([step])]).to(device) for part in some)
        return above, below

    return rows
