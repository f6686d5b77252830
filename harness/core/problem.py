"""A bilevel problem: two functions and how to judge an answer. Nothing about solving.

min_x f(x, y*(x))   subject to   y*(x) in argmin_y g(x, y)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .errors import RequestError
from .stream import Stream

FLAGS = {
    "strongly_convex": "g(x, .) is strongly convex for every x: y*(x) is unique, and smooth unless it is kinked",
    "convex": "g(x, .) is convex",
    "pl": "g(x, .) satisfies the Polyak-Lojasiewicz inequality",
    "nonconvex": "g(x, .) is not convex",
    "multi_valued": "argmin g(x, .) has more than one point for some x",
    "unattained": "the infimum of Phi is not attained",
    "boundary": "the solution lies on a bound of x or y",
    "discontinuous": "Phi jumps",
    "kinked": "y*(x) has kinks, where bounds or constraints become active, and so may Phi",
    "once": "torch has no second derivative of f or g: first-order solvers alone run",
    "nonsmooth": "f or g has kinks: their derivatives by torch are subgradients there",
}
LOCAL = (
    "local: the minimiser that descent reaches from the solver's y, or from the last one found where g is less there"
)


@dataclass(frozen=True)
class Picture:
    """How a low-dimensional problem is drawn: the path of two coordinates over the level sets of a function.

    Parameters
    ----------
    axes
        The two coordinates, each ``("x" | "y", index)``.
    level
        ``(u, v) -> values``: of two tensors of one shape, the grid's coordinates, the values drawn, in that shape.
    box
        (left, right, bottom, top).
    label
        What the level sets are.
    outline, solution
        A closed polygon and a point, in the same coordinates.
    """

    axes: tuple[tuple[str, int], tuple[str, int]]
    level: Callable[[Tensor, Tensor], Tensor]
    box: tuple[float, float, float, float]
    label: str
    outline: tuple[tuple[float, float], ...] = ()
    solution: tuple[float, float] | None = None


class Bar(NamedTuple):
    """What must be beaten: the best of these reference lines, by this figure. None of them needs a bilevel method.

    Parameters
    ----------
    figure
        "phi", which is better lower, or a key of ``Problem.better``.
    lines
        Keys of what ``Problem.references`` answers.
    """

    figure: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Two functions, a start, and how to judge an answer.

    Parameters
    ----------
    f, g
        ``(x, y, rows=None) -> scalar``. ``x`` of shape (n_x,) and ``y`` of shape (n_y,) are flat; ``rows`` is a tensor
        of indices into the function's data (a minibatch), None for all rows. Both are differentiable by torch.
    x0, y0
        The start, shapes (n_x,) and (n_y,); every solver begins there.
    n_f, n_g
        Rows of data behind f and g; 1 means that the function is no finite sum and takes no minibatch.
    y_star
        ``x -> y*(x)``, in closed form or by a solver of its own, differentiable by torch wherever y* is. With several
        minimisers, the optimistic one (least f). None where the judge has to solve the lower level.
    selection
        Where argmin g(x, .) has several points, which of them y* and every metric mean and how it is found, such as
        "optimistic: the shortest minimiser, in closed form".
    phi_star, phi_star_source
        The least value of Phi(x) = f(x, y*(x)), and how it is known.
    metrics
        ``(x, y) -> {name: value}``, the problem's own figures (accuracy, ...).
    better
        Of those figures that tell how well the upper level does, whether "higher" or "lower" is better for it.
    target
        Of the figures in ``better`` those that a run is to reach, and the value: {"accuracy": 0.9}.
    references
        ``() -> {line: {name: value}}``, what a solver must be compared with, each solved to convergence.
    bar
        The reference lines that a solver must beat to have shown anything.
    project_x, project_y
        Euclidean projections on X and Y. None means the whole space. They act coordinate by coordinate (boxes); every
        solver applies them after every update of a point in X or Y.
    h_f, h_g
        Constraints that couple x and y, ``(x, y) -> (m,)``, satisfied where <= 0. h_g is the lower level's: y*(x) in
        argmin {g(x, y): h_g(x, y) <= 0}; it needs ``y_star``. h_f is the upper level's, on (x, y*(x)).
    project_xy
        Euclidean projection of (x, y) on {X times Y: h_g(x, y) <= 0}, where it is cheap.
    flags
        What is known of the structure; the keys of ``core.problem.FLAGS``.
    picture
        How it is drawn, where it has two coordinates that say all.
    phi_at
        At which looks Phi is judged where y* is solved for: "every look", or "doublings", the start, each time the
        steps have doubled, and the end. Left out: every look where g is flagged strongly convex, doublings elsewhere,
        but within fewer gradients of g: Phi is then not available where a re-solve takes more. "never" where y* is not
        to be had (a network that takes hours): the problem's own figures are what a run is judged by.
    stream
        What a step is about, where the problem changes with the step. There is no one Phi then, so a run is judged by
        the problem's own figures, and n_f and n_g are 1: a step's rows are its own.
    final
        ``(x, y) -> {name: value}``, figures that are dear (a network trained anew): judged at the last look alone.
    seeded
        Whether the seed changes anything (data, noise, split or start).
    modules
        ``(x, y) -> (upper, lower)``, the state dicts of two modules whose parameters x and y are.
    notes
        What a reader of its results has to know, a sentence each ("dropout is off: ..."). Header, ``check`` and report
        show them.

    Raises
    ------
    TypeError, ValueError
        Where fields do not fit, such as a start that is no vector, an unknown flag, or a Phi* without its source.
    """

    f: Callable[..., Tensor]
    g: Callable[..., Tensor]
    x0: Tensor
    y0: Tensor
    n_f: int = 1
    n_g: int = 1
    y_star: Callable[[Tensor], Tensor] | None = None
    phi_star: float | None = None
    phi_star_source: str = ""
    metrics: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None
    better: Mapping[str, Literal["higher", "lower"]] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    references: Callable[[], Mapping[str, Mapping[str, float]]] | None = None
    bar: Bar | None = None
    project_x: Callable[[Tensor], Tensor] | None = None
    project_y: Callable[[Tensor], Tensor] | None = None
    h_f: Callable[[Tensor, Tensor], Tensor] | None = None
    h_g: Callable[[Tensor, Tensor], Tensor] | None = None
    project_xy: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    flags: frozenset[str] = field(default_factory=frozenset)
    picture: Picture | None = None
    selection: str = ""
    phi_at: Literal["", "every look", "doublings", "never"] = ""
    stream: Stream | None = None
    final: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None
    seeded: bool = True
    modules: Callable[[Tensor, Tensor], tuple[dict[str, Any], dict[str, Any]]] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, start in (("x0", self.x0), ("y0", self.y0)):
            if not isinstance(start, Tensor) or start.ndim != 1 or start.numel() == 0:
                raise TypeError(f"{name} must be a non-empty tensor of one dimension, not {start!r:.80}")
        object.__setattr__(self, "flags", frozenset([self.flags] if isinstance(self.flags, str) else self.flags))
        object.__setattr__(self, "notes", (self.notes,) if isinstance(self.notes, str) else tuple(self.notes))
        if unknown := self.flags - set(FLAGS):
            raise ValueError(f"unknown flags {sorted(unknown)}; the known ones are {sorted(FLAGS)}")
        if self.phi_at not in ("", "every look", "doublings", "never"):
            raise ValueError(f"phi_at={self.phi_at!r} is not valid; it is 'every look', 'doublings' or 'never'")
        if self.phi_at == "never" and self.metrics is None:
            raise ValueError("phi_at='never' leaves nothing to judge a run by: the problem needs metrics of its own")
        if self.h_g is not None and self.y_star is None:
            raise ValueError("a problem with lower-level constraints h_g needs y_star; LowerSolution makes one")
        if self.phi_star is not None and not self.phi_star_source:
            raise ValueError("phi_star needs phi_star_source: say how the value is known")
        if self.bar is not None and (self.references is None or self.bar.figure not in {*self.better, "phi"}):
            raise ValueError(f"{self.bar} needs `references`, and a figure that is phi or one of `better`")

        if self.stream is not None and (self.metrics is None or (self.n_f, self.n_g) != (1, 1)):
            raise ValueError("a problem with a stream needs metrics, and n_f and n_g are 1: a step has its own rows")
        if unset := [name for name in self.target if name not in self.better]:
            raise ValueError(f"target={dict(self.target)} sets {unset[0]!r}; `better` must say which way it is better")

    def state_dicts(self, x: Tensor, y: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state dicts of the upper and the lower module at a point, x of shape (n_x,), y of shape (n_y,).

        In the modules' own dtypes, with buffers and what is tied: ``module.load_state_dict`` takes them. Raises
        RequestError where the problem is not made of modules.
        """
        if self.modules is None:
            raise RequestError("this problem is not made of modules (see from_modules), so it has no state dicts")
        return self.modules(x, y)

    @property
    def bounds_x(self) -> tuple[Tensor, Tensor] | None:
        """The box that X is, as (low, high), each of shape (n_x,); None for the whole space."""
        return _bounds(self.project_x, self.x0)

    @property
    def bounds_y(self) -> tuple[Tensor, Tensor] | None:
        """The box that Y is, likewise."""
        return _bounds(self.project_y, self.y0)

    @property
    def chosen(self) -> str:
        """Which y*(x) the metrics mean and how it is found, where argmin g(x, .) may have more than one point."""
        if self.selection or self.y_star is not None or {"strongly_convex", "convex"} & self.flags:
            return self.selection
        return LOCAL


def _bounds(project: Callable[[Tensor], Tensor] | None, like: Tensor) -> tuple[Tensor, Tensor] | None:
    if project is None:
        return None
    return project(torch.full_like(like, -math.inf)), project(torch.full_like(like, math.inf))


def box(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """The projection on [low, high]^n: a function of a point, shape (n,), that answers one of the same shape.

    Parameters
    ----------
    low, high
        The ends, the same for each coordinate; infinite where there is none.
    """
    return lambda point: torch.clamp(point, low, high)
