"""Whether an answer is right, and what a wrong one is instead."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .tasks import Hypergradient, Quadratic, ask, off, seen, split

EPS = 1e-6  # relative error up to which an answer is right
EPS_32 = 1e-4  # in float32


def accuracy(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """Relative errors in 1, 3 and 6 variables, and what a wrong answer is instead."""
    found = []
    for eigenvalues in ([1.0], [0.5, 0.8, 1.0], [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]):
        task = Quadratic(eigenvalues)
        got, exact = ask(hypergradient, task)[0].detach(), task.exact(task.y_star())
        error = off(got, exact)
        text = f"relative error {error:.2g}"
        if not error <= EPS:
            text += f": {besides(hypergradient, task, eigenvalues) or instead(task, got, exact)}"
        what = f"accuracy, {len(eigenvalues)} variable{'s' * (len(eigenvalues) > 1)}"
        found.append(seen(what, text, error <= EPS, error=error))
    return found


def besides(hypergradient: Hypergradient, task: Quadratic, eigenvalues: list[float]) -> str:
    """In words: what an answer holds that does not come from f, and what the rest of it is. '' where there is none."""
    mine, other = split(hypergradient, eigenvalues)
    exact = task.exact(task.y_star())
    if not float(other.norm()) > 1e-4 * float(mine.norm()):
        return ""
    g_x = -task.C.T @ task.y_star()
    times = float(other @ g_x / (g_x @ g_x))
    what = f"{times:.4g} times the gradient of g in x" if off(other, times * g_x) <= 1e-4 else "what is not f's"
    rest = "right" if off(mine, exact) <= EPS else instead(task, mine, exact)
    return f"{what} is added; without it {rest}"


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
    implicit = got - direct
    if len(got) > 1 and float(implicit.std()) <= 1e-9 * float(implicit.norm()):
        return "the implicit part is the same number in each entry, as of a sum over them"
    kept = torch.linalg.solve(mixed, implicit) * task.h / f_y  # 1 - (1 - step h)^terms, where it is truncated
    if found := series(task.h.tolist(), kept.tolist()):
        terms, step = found
        return (
            f"a series cut off after {terms} term{'s' * (terms > 1)}, as of unrolled descent with the step {step:.4g}"
        )
    cosine = float(got @ exact / (got.norm() * exact.norm()))
    return f"cosine {cosine:.3f}, length {factor:.3g} times as large; no pattern that is known"


def series(h: list[float], kept: list[float]) -> tuple[int, float] | None:
    """Number of terms and step of the Neumann series, or of the unrolled descent, that explains ``kept``."""
    if len(kept) < 2 or not all(0 < share < 1 for share in kept):
        return None
    for terms in range(1, 1001):
        step = (1 - (1 - kept[0]) ** (1 / terms)) / h[0]
        if all(abs(1 - (1 - step * a) ** terms - b) <= 1e-5 for a, b in zip(h, kept, strict=True)):
            return terms, step
    return None


def scales(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """f in other units must only change the units of the answer; a zero right-hand side must not make NaN of it."""
    base = Quadratic([0.5, 0.8, 1.0])
    first, found = off(ask(hypergradient, base)[0], base.exact(base.y_star())), []
    for scale in (1e-8, 1e8):
        task = Quadratic([0.5, 0.8, 1.0], scale)
        error = off(ask(hypergradient, task)[0], task.exact(task.y_star()))
        fine = error <= 10 * first + EPS
        found.append(seen(f"f times {scale:g}", f"relative error {error:.2g}" + ("" if fine else
                          ": not in proportion to f, as of an absolute tolerance"), fine, error=error))  # fmt: skip
    task = Quadratic([0.5, 0.8, 1.0])
    task.c = task.y_star()  # f_y is 0
    got, exact = ask(hypergradient, task)[0], task.exact(task.y_star())
    fine = off(got, exact) <= EPS
    text = "right" if fine else "NaN" if bool(got.isnan().any()) else f"relative error {off(got, exact):.2g}"
    return [*found, seen("f that y does not move", text, fine)]


def honesty(hypergradient: Hypergradient) -> list[dict[str, Any]]:
    """NaN stays NaN; float32 stays float32 and is as exact as it can be."""
    task = Quadratic([0.5, 0.8, 1.0])
    task.c = task.c * math.nan
    got = ask(hypergradient, task)[0]
    fine = bool(got.isnan().any())
    found = [seen("f that is NaN", "NaN" if fine else f"{got.tolist()}: NaN is hidden", fine)]
    task = Quadratic([0.5, 0.8, 1.0], dtype=torch.float32)
    got = ask(hypergradient, task)[0]
    double = Quadratic([0.5, 0.8, 1.0])
    error, first = (
        off(got, task.exact(task.y_star())),
        off(ask(hypergradient, double)[0], double.exact(double.y_star())),
    )
    exact = error <= 10 * first + EPS_32  # False for NaN
    text = f"{str(got.dtype)[6:]}, relative error {error:.2g}" + ("" if exact else f", and {first:.2g} in float64")
    return [*found, seen("float32", text, exact and got.dtype == torch.float32)]
