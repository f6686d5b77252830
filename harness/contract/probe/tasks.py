"""Bilevel problems with known hypergradients, handed to a library as two functions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .door import through

Hypergradient = Callable[..., Any]


class Quadratic:
    """g = y'Hy/2 - (Cx)'y with H diagonal, f = scale (|y - c|^2 / 2 + (d + 0.3 x)'x); hypergradients in closed form.

    counts: how often f and g were asked, and passes back; the k-th evaluation of g alone is under ``g k``, too.
    """

    def __init__(self, eigenvalues: list[float], scale: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        n = len(eigenvalues)
        rng = torch.Generator().manual_seed(n)
        self.h = torch.tensor(eigenvalues, dtype=dtype)
        self.C = torch.randn(n, n, generator=rng, dtype=torch.float64).to(dtype) + 2 * torch.eye(n, dtype=dtype)
        self.c, self.d, self.x = (torch.randn(n, generator=rng, dtype=torch.float64).to(dtype) for _ in range(3))
        self.scale, self.counts = scale, Counter[str]()
        self.weight = torch.ones(n, dtype=dtype, requires_grad=True)  # that f and g hold, and nobody asks for
        self.apart = False  # whether each evaluation of g counts its own passes

    def f(self, x: Any, y: Any) -> Any:
        x, y, (c, d, weight) = self._through("f", x, y, self.c, self.d, self.weight)
        return self.scale * (0.5 * ((y - c) ** 2 * weight).sum() + ((d + 0.3 * x) * x).sum())

    def g(self, x: Any, y: Any) -> Any:
        x, y, (h, C, weight) = self._through("g", x, y, self.curvature(), self.C, self.weight)
        return 0.5 * (h * y * y * weight).sum() - (C @ x) @ y

    def curvature(self) -> Tensor:
        """H of the rows that this evaluation of g is about: all."""
        return self.h

    def _through(self, name: str, x: Any, y: Any, *constants: Tensor) -> tuple[Any, Any, tuple[Any, ...]]:
        self.counts[name] += 1
        if not isinstance(x, Tensor):  # arrays of jax: evaluations alone are counted, as often as they are traced
            jnp = sys.modules["jax"].numpy
            return x, y, tuple(jnp.asarray(part.detach().numpy()) for part in constants)
        if self.apart:
            name = f"{name} {self.counts[name]}"
        return *through(x, y, self.counts, name), constants

    def y_star(self) -> Tensor:
        return (self.C @ self.x) / self.h

    def parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The direct part, and d2g_xy' and f_y, so that the hypergradient is direct + mixed @ (f_y / h)."""
        return self.scale * (self.d + 0.6 * self.x), self.C.T, self.scale * (y - self.c)

    def exact(self, y: Tensor) -> Tensor:
        direct, mixed, f_y = self.parts(y)
        return direct + mixed @ (f_y / self.h)

    def implicit(self, got: Tensor) -> Tensor:
        """The vector, one number for each direction, that the implicit part of an answer is C' of."""
        return torch.linalg.solve(self.parts(self.c)[1], got.detach() - self.parts(self.c)[0])


class Rows(Quadratic):
    """g as a mean of two rows, with H (1 + spread) and H (1 - spread): each evaluation is about one, drawn anew."""

    spread = 0.3

    def __init__(self, eigenvalues: list[float], seed: int) -> None:
        super().__init__(eigenvalues)
        self.drawn = torch.Generator().manual_seed(seed // 2)  # of two seeds one draws the other rows
        self.first = 2 * (seed % 2) - 1

    def curvature(self) -> Tensor:
        sign = self.first * (2 * int(torch.randint(2, (), generator=self.drawn)) - 1)
        return self.h * (1 + sign * self.spread)


def ask(hypergradient: Hypergradient, task: Quadratic, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The answer at (x, y), y*(x) by default, with the two points that were handed over."""
    x = task.x.clone().requires_grad_()
    y = (task.y_star() if y is None else y).clone().requires_grad_()
    answer = hypergradient(task.f, task.g, x, y)
    if isinstance(answer, tuple | list):
        (answer,) = answer
    if not isinstance(answer, Tensor) or answer.shape != x.shape:
        raise TypeError(f"hypergradient answers {answer!r:.60}, not a tensor of the shape of x, {tuple(x.shape)}")
    return answer, x, y


def off(got: Tensor, exact: Tensor) -> float:
    """Relative error; NaN where the answer is."""
    return float((got.detach().double() - exact.double()).norm() / exact.double().norm())


def split(hypergradient: Hypergradient, eigenvalues: list[float], away: float = 0.0) -> tuple[Tensor, Tensor]:
    """The part of an answer that is f's, for it doubles with f, and what does not come from f and has no place there.

    away: how far from y* the answer is asked for, in steps that differ from variable to variable.
    """
    answers = []
    for scale in (1.0, 2.0):
        task = Quadratic(eigenvalues, scale)
        shift = away * torch.linspace(0.6, 1.6, len(eigenvalues), dtype=torch.float64)
        answers.append(ask(hypergradient, task, task.y_star() + shift)[0].detach())
    return answers[1] - answers[0], 2 * answers[0] - answers[1]


def through_jax(hypergradient: Hypergradient) -> Hypergradient:
    """A hypergradient of arrays of jax as one of tensors. What it does to x and y is not seen: they are copies."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)

    def asked(f: Any, g: Any, x: Tensor, y: Tensor) -> Tensor:
        answer = hypergradient(f, g, *(jax.numpy.asarray(point.detach().numpy()) for point in (x, y)))
        return torch.from_numpy(np.array(answer))

    asked.arrays = "jax"  # type: ignore[attr-defined]
    return asked


def seen(what: str, text: str, fine: bool, **figures: float) -> dict[str, Any]:
    """One observation."""
    return {"what": what, "text": text, "fine": fine, **figures}
