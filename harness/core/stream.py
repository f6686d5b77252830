"""A problem that changes with the step: new tasks, the next batch of a data stream. The same for every solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .errors import Unsupported


@dataclass(frozen=True)
class Stream:
    """What a step is about: f and g see these rows of a large (or virtual) index set, whatever is asked of them.

    Parameters
    ----------
    rows
        ``step -> (rows of f, rows of g)``, index tensors of shapes (m,) and (n,), a pure function of the problem's seed
        and the step. All that a solver asks within a step is answered on them, so that its inner iterations share one
        batch, as in the papers that draw once for each outer step; ``f(x, y)`` and ``g(x, y)`` without rows mean those
        of step 0.
    renew
        ``(step, x, y) -> (x, y)`` before a step: heads that start anew with new tasks, weights that are renormalised
        after an epoch. Pure, by the harness and within the solver's clock; None where both go on.
    looks
        Steps at which a run is looked at besides the usual ones, in increasing order: the ends of tasks.
    over
        Figures of a whole run by those of its looks so far, ``{step: {name: value}} -> {name: value}``.
    """

    rows: Callable[[int], tuple[Tensor, Tensor]]
    renew: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    looks: tuple[int, ...] = ()
    over: Callable[[Mapping[int, Mapping[str, float]]], Mapping[str, float]] | None = None

    def next_look(self, step: int, usual: int) -> int:
        """The look that comes next after ``step``: the ``usual`` one, or one of the stream's own before it."""
        return min([usual, *(look for look in self.looks if look > step)])


def refuse_stream(streams: bool, engine: str) -> None:
    """``Unsupported`` where an engine records a step once, and so cannot follow a problem that changes with it."""
    if streams and engine not in ("eager", "functional", "in_process"):
        raise Unsupported(
            f"the engine {engine} runs steps that it has recorded, and this problem changes with the step; "
            "the engine eager takes it"
        )
