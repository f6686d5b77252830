"""What ``bilevelbench.solve`` answers: where a solver came to, and the way there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bilevelbench.core.errors import RequestError
from bilevelbench.core.problem import Problem

from . import arguments

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("upper", "lower")


@dataclass(repr=False)
class Solution:
    """Where a solver came to.

    Attributes
    ----------
    x, y : torch.Tensor
        The upper variable, shape (n_x,), and the lower one, shape (n_y,).
    state : NamedTuple
        The solver's state, of which x and y are parts.
    step : int
        Outer steps made.
    calls : dict
        Oracle calls by kind.
    status : str
        ``done``; ``stopped`` by the callback; ``diverged`` where x or y is not finite any more; ``running`` in a
        callback.
    problem, solver
        What was solved, and by what.
    rows : list of dict
        What ``history`` is made of.
    """

    problem: Problem
    solver: Any
    state: Any
    step: int
    calls: dict[str, int]
    status: str = "running"
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def x(self) -> Tensor:
        """The upper variable, shape (n_x,)."""
        x: Tensor = self.state.x
        return x

    @property
    def y(self) -> Tensor:
        """The lower variable, shape (n_y,)."""
        y: Tensor = self.state.y
        return y

    @property
    def history(self) -> pd.DataFrame:
        """A row for each look, the first at the start: ``step``, ``total_calls``, and the metrics, f and g or the
        judge's, and the problem's own."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def state_dict(self, level: str | None = None) -> dict[str, Any]:
        """The trained parameters, for a problem made of modules.

        ``level``: ``upper`` or ``lower``, for that module's ``load_state_dict``. Without it both, as those of
        ``nn.ModuleDict({"upper": ..., "lower": ...})``. RequestError for a problem that is not made of modules.
        """
        both = dict(zip(LEVELS, self.problem.state_dicts(self.x, self.y), strict=True))
        if level is None:
            return {f"{name}.{key}": value for name, own in both.items() for key, value in own.items()}
        if level not in LEVELS:
            raise arguments.wrong("level", level, "'upper' or 'lower'")
        return both[level]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write x and y to ``path`` as safetensors; ``solve(..., start=path)`` goes on from there.

        RequestError where it cannot be written.
        """
        from bilevelbench.store import points

        file, arrays = arguments.path("path", path), {"x": self.x, "y": self.y}
        if not file.name or file.is_dir():
            raise RequestError(f"path {file} is a folder; name a file, such as {file / 'solution.safetensors'}")
        try:
            points.write(file, {k: v.detach().cpu().numpy() for k, v in arrays.items()}, {"step": str(self.step)})
        except OSError as error:
            raise RequestError(f"path {file} cannot be written ({error.strerror})") from None

    def __repr__(self) -> str:
        last = {k: v for k, v in (self.rows[-1] if self.rows else {}).items() if k not in ("step", "total_calls")}
        shown = "".join(f", {name} {value:.6g}" for name, value in last.items() if isinstance(value, float))
        sizes = f"n_x {self.x.numel()}, n_y {self.y.numel()}"
        return f"<Solution: {self.solver.name}, {self.status} at step {self.step}, {sizes}{shown}>"
