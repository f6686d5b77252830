"""What a hypergradient answers on quadratics whose answer is known. Runs in any environment that has torch.

    python probe.py FILE OUT

FILE has ``hypergradient(f, g, x, y)``; OUT gets a JSON list of observations. Nothing of bilevelbench is imported: the
library that FILE uses may need an environment in which bilevelbench cannot be installed.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import sys
from collections import Counter
from typing import Any

import torch
from torch import Tensor

EPS = 1e-6  # relative error up to which an answer is right


class Door(torch.autograd.Function):
    """The identity of x and y, which counts the passes back through it, and those through passes back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, counter: Counter[str], name: str) -> tuple[Tensor, Tensor]:
        return x.view_as(x), y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.counter, ctx.name = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        ctx.counter[f"{ctx.name} back"] += 1
        return *Door.apply(slopes[0], slopes[1], ctx.counter, f"{ctx.name} back"), None, None

    @staticmethod
    def jvp(ctx: Any, *along: Any) -> Any:
        ctx.counter[f"{ctx.name} ahead"] += 1
        return along[0].view_as(along[0]), along[1].view_as(along[1])


class Quadratic:
    """g = y'Hy/2 - (Cx)'y with H diagonal, f = scale (|y - c|^2 / 2 + (d + 0.3 x)'x); hypergradients in closed form."""

    def __init__(self, eigenvalues: list[float], scale: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        n = len(eigenvalues)
        rng = torch.Generator().manual_seed(n)
        self.h = torch.tensor(eigenvalues, dtype=dtype)
        self.C = torch.randn(n, n, generator=rng, dtype=torch.float64).to(dtype) + 2 * torch.eye(n, dtype=dtype)
        self.c, self.d, self.x = (torch.randn(n, generator=rng, dtype=torch.float64).to(dtype) for _ in range(3))
        self.scale, self.counts = scale, Counter[str]()
        self.weight = torch.ones(n, dtype=dtype, requires_grad=True)  # that f and g hold, and nobody asks for

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self._through(x, y, "f")
        return self.scale * (0.5 * ((y - self.c) ** 2 * self.weight).sum() + ((self.d + 0.3 * x) * x).sum())

    def g(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self._through(x, y, "g")
        return 0.5 * (self.h * y * y * self.weight).sum() - (self.C @ x) @ y

    def _through(self, x: Tensor, y: Tensor, name: str) -> tuple[Tensor, Tensor]:
        self.counts[name] += 1
        through: tuple[Tensor, Tensor] = Door.apply(x, y, self.counts, name)
        return through

    def y_star(self) -> Tensor:
        return (self.C @ self.x) / self.h

    def parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The direct part, and d2g_xy' and f_y, so that the hypergradient is direct + mixed @ (f_y / h)."""
        return self.scale * (self.d + 0.6 * self.x), self.C.T, self.scale * (y - self.c)

    def exact(self, y: Tensor) -> Tensor:
        direct, mixed, f_y = self.parts(y)
        return direct + mixed @ (f_y / self.h)


def ask(hypergradient: Any, task: Quadratic, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
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


def accuracy(hypergradient: Any) -> list[dict[str, Any]]:
    """Relative errors in 1, 3 and 6 variables, and what a wrong answer is instead."""
    found = []
    for eigenvalues in ([1.0], [0.5, 0.8, 1.0], [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]):
        task = Quadratic(eigenvalues)
        got, exact = ask(hypergradient, task)[0].detach(), task.exact(task.y_star())
        error = off(got, exact)
        text = f"relative error {error:.2g}" + ("" if error <= EPS else f": {instead(task, got, exact)}")
        what = f"accuracy, {len(eigenvalues)} variable{'s' * (len(eigenvalues) > 1)}"
        found.append(seen(what, text, error <= EPS, error=error))
    return found


def instead(task: Quadratic, got: Tensor, exact: Tensor) -> str:
    """In words: what a wrong answer looks like."""
    direct, mixed, f_y = task.parts(task.y_star())
    if not bool(torch.isfinite(got).all()):
        return "not finite"
    for words, other in (
        ("the implicit part is missing", direct), ("the direct part is missing", exact - direct),
        ("the implicit part has the wrong sign", 2 * direct - exact), ("the sign is reversed", -exact),
    ):  # fmt: skip
        if off(got, other) <= 1e-4:
            return words
    if len(got) > 1 and float(got.std()) <= 1e-9 * float(got.norm()) < float(exact.std()):
        return "the same number in each entry"
    factor = float(got @ exact / (exact @ exact))
    if off(got, factor * exact) <= 1e-4:
        return f"the direction is right, the length {factor:.4g} times as large"
    kept = torch.linalg.solve(mixed, got - direct) * task.h / f_y  # 1 - (1 - step h)^terms, where it is truncated
    if bool(((kept > 0) & (kept < 1)).all()) and len(kept) > 1:
        words = series(task.h.tolist(), kept.tolist())
        if words:
            return words
    cosine = float(got @ exact / (got.norm() * exact.norm()))
    return f"cosine {cosine:.3f}, length {factor:.3g} times as large; no pattern that is known"


def series(h: list[float], kept: list[float]) -> str:
    """The step and the number of terms of the Neumann series, or of the unrolled descent, that explains ``kept``."""
    for terms in range(1, 1001):
        step = (1 - (1 - kept[0]) ** (1 / terms)) / h[0]
        if all(abs(1 - (1 - step * a) ** terms - b) <= 1e-5 for a, b in zip(h, kept, strict=True)):
            return f"a series cut off after {terms} terms, as of unrolled descent with the step {step:.4g}"
    return ""


def scales(hypergradient: Any) -> list[dict[str, Any]]:
    """f in other units must only change the units of the answer; a zero right-hand side must not make NaN of it."""
    base = Quadratic([0.5, 0.8, 1.0])
    first, found = off(ask(hypergradient, base)[0], base.exact(base.y_star())), []
    for scale in (1e-8, 1e8):
        task = Quadratic([0.5, 0.8, 1.0], scale)
        error = off(ask(hypergradient, task)[0], task.exact(task.y_star()))
        fine = error <= 10 * first + EPS
        found.append(seen(f"f times {scale:g}", f"relative error {error:.2g}" + ("" if fine else
                          ": a tolerance is absolute"), fine, error=error))  # fmt: skip
    task = Quadratic([0.5, 0.8, 1.0])
    task.c = task.y_star()  # f_y is 0
    got, exact = ask(hypergradient, task)[0], task.exact(task.y_star())
    fine = off(got, exact) <= EPS
    text = "right" if fine else "NaN" if bool(got.isnan().any()) else f"relative error {off(got, exact):.2g}"
    return [*found, seen("f that y does not move", text, fine)]


def honesty(hypergradient: Any) -> list[dict[str, Any]]:
    """NaN stays NaN; float32 stays float32 and is as exact as it can be."""
    task = Quadratic([0.5, 0.8, 1.0])
    task.c = task.c * math.nan
    got = ask(hypergradient, task)[0]
    fine = bool(got.isnan().any())
    found = [seen("f that is NaN", "NaN" if fine else f"{got.tolist()}: NaN is hidden", fine)]
    task = Quadratic([0.5, 0.8, 1.0], dtype=torch.float32)
    got = ask(hypergradient, task)[0]
    fine = got.dtype == torch.float32
    return [
        *found,
        seen("float32", f"{str(got.dtype)[6:]}, relative error {off(got, task.exact(task.y_star())):.2g}", fine),
    ]


def effects(hypergradient: Any) -> list[dict[str, Any]]:
    """What a call leaves behind: at its points, at parameters that f and g hold, in memory; and whether it repeats."""
    task = Quadratic([0.5, 0.8, 1.0])
    begin = task.y_star() + 0.5
    got, x, y = ask(hypergradient, task, begin)
    left = [f"{name}.grad is set" for name, point in (("x", x), ("y", y)) if point.grad is not None]
    handed = (("x", x, task.x), ("y", y, begin))
    left += [f"{name} is changed" for name, point, was in handed if not torch.equal(point, was)]
    left += ["the gradient of a parameter of f and g is set"] * (task.weight.grad is not None)
    graph = got.grad_fn is not None
    found = [
        seen("side effects", "; ".join(left) or "none", not left),
        seen("graph of the answer", "kept: detach it, or memory grows over iterations" if graph else "none", not graph),
    ]
    again = ask(hypergradient, task, begin)[0]
    same = torch.allclose(got, again, rtol=1e-12, atol=0, equal_nan=True)
    found.append(seen("a second call", "the same answer" if same else f"differs by {off(again, got):.2g}", same))
    error = {"y": off(got, task.exact(begin)), "y*": off(got, task.exact(task.y_star()))}
    place = min(error, key=lambda key: error[key] if error[key] == error[key] else math.inf)
    text = f"evaluated at {place}" if error[place] <= 1e-4 else f"off by {error[place]:.2g} from that at y and at y*"
    found.append(seen("y away from y*", text, True))
    before = _tensors()
    for _ in range(5):
        ask(hypergradient, task, begin)
    grown = (_tensors() - before) / 5
    return [*found, seen("tensors left behind", f"{grown:g} a call", grown < 1)]


def _tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())  # isinstance would wake lazy modules


def cost(hypergradient: Any) -> list[dict[str, Any]]:
    """Evaluations of f and g and passes back through them, in 6 variables."""
    task = Quadratic([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
    ask(hypergradient, task)
    c = task.counts
    words = {"": "evaluations", " back": "passes back", " back back": "through those", " ahead": "ahead"}
    parts = (f"{name}: " + ", ".join(f"{c[name + key]} {word}" for key, word in words.items()) for name in "fg")
    text = "; ".join(parts)
    return [seen("cost", text, True)]


def seen(what: str, text: str, fine: bool, **figures: float) -> dict[str, Any]:
    return {"what": what, "text": text, "fine": fine, **figures}


def main(file: str, out: str) -> None:
    """All observations of a file, in OUT. What a library raises is an observation."""
    spec = importlib.util.spec_from_file_location("examined", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[dict[str, Any]] = []
    for part in (accuracy, scales, honesty, effects, cost):
        try:
            found += part(module.hypergradient)
        except Exception as error:
            found.append(seen(part.__name__, f"{type(error).__name__}: {error}".splitlines()[0][:200], False))
    with open(out, "w", encoding="utf-8") as place:
        json.dump(found, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
