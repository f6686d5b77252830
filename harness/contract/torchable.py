"""The first thing asked of a problem: can torch differentiate its f and g? Each fault is one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem
from bilevelbench.measure.guards import asked_twice

from .problems import probe

MOVE = 1e-3  # how far a variable is moved to see whether a value depends on it
CUT = "torch's own functions all the way, without detach, no_grad, numpy, float() or .item(), keep it whole"
HAND_OVER = "make constants in float64 and hand them over with rng.put"


def f_and_g_are_functions_of_torch(target: str) -> str:
    """f and g answer finite scalars of the variables' dtype, can be differentiated, and leave x and y alone.

    Where torch has no second derivative of them, that is said: methods that need none run.
    """
    rng = Draw(0)
    try:
        problem = build_problem(target, rng)
    except Unsupported:
        raise
    except RequestError as error:
        raise AssertionError(str(error)) from None
    except Exception as error:
        raise AssertionError(f"the problem cannot be built: {type(error).__name__}: {_first(error)}") from None
    for name in ("f", "g"):
        _answers(name, getattr(problem, name), problem)
    with contextlib.suppress(RuntimeError):  # what cannot be differentiated is said by what follows
        try:
            asked_twice(problem, rng)
        except Unsupported as reason:
            raise AssertionError(str(reason)) from None
    for name in ("f", "g"):
        _differentiates(name, getattr(problem, name), problem)
        _takes_rows(name, getattr(problem, name), problem)
    once = " and ".join(name for name in ("f", "g") if _once(name, getattr(problem, name), problem))
    said, flagged = f"{problem.x0.numel()} upper and {problem.y0.numel()} lower variables", "once" in problem.flags
    if flagged and not once:
        raise AssertionError("it is flagged once, but torch has second derivatives of f and g; take the flag away")
    if not once:
        return said
    return f"{said}; {once} differentiable once" + (
        "" if flagged else ", which is no fault: order 1 alone runs, and the flag `once` tells readers"
    )


def _answers(name: str, function: Callable[..., Any], problem: Problem) -> None:
    """The value itself, without a gradient."""
    x, y = problem.x0.clone(), problem.y0.clone()
    with torch.no_grad():
        value = _call(name, function, x, y)
    if not isinstance(value, Tensor):
        raise AssertionError(f"{name} answers a {type(value).__name__}, not a tensor: the gradient is cut; {CUT}")
    if value.ndim:
        raise AssertionError(
            f"{name} answers a tensor of shape {tuple(value.shape)}; a scalar is wanted, so sum or average"
        )
    if not torch.equal(x, problem.x0) or not torch.equal(y, problem.y0):
        raise AssertionError(f"{name} changes x or y in place; make new tensors")
    if value.dtype != x.dtype:
        raise AssertionError(f"{name} answers {value.dtype} for variables in {x.dtype}; {HAND_OVER}")
    if not bool(torch.isfinite(value)):
        raise AssertionError(f"{name} is {float(value)} at the start; it must be finite there")


def _differentiates(name: str, function: Callable[..., Any], problem: Problem) -> None:
    """First derivatives at the start, at a point near it what torch may have missed, and a second derivative."""
    slopes = _slopes(name, function, problem.x0, problem.y0)
    for letter, slope in zip("xy", slopes, strict=True):
        if slope is not None and not bool(torch.isfinite(slope).all()):
            raise AssertionError(
                f"the gradient of {name} in {letter} is not finite at the start, though {name} is: a root, a norm or a "
                "logarithm at 0?"
            )
    x, y = probe(problem)
    slopes = _slopes(name, function, x, y)
    moved = {"x": (x + MOVE, y), "y": (x, y + MOVE)}
    for letter, slope in zip("xy", slopes, strict=True):
        if slope is not None:
            continue
        with torch.no_grad():
            depends = not torch.equal(function(*moved[letter]), function(x, y))
        if depends:
            raise AssertionError(f"{name} changes with {letter}, but the gradient of {name} in {letter} is cut; {CUT}")
        if letter == "y":
            raise AssertionError(f"{name} does not depend on y, so there is nothing bilevel in it")


def _slopes(name: str, function: Callable[..., Any], x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients in x and y, None where torch sees no connection."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = _call(name, function, x, y)
    if not value.requires_grad:
        return None, None
    try:
        in_x, in_y = torch.autograd.grad(value, (x, y), allow_unused=True)
    except Exception as error:
        raise AssertionError(_words(name, error, "cannot be differentiated")) from None
    return in_x, in_y


def _once(name: str, function: Callable[..., Any], problem: Problem) -> bool:
    """Whether torch has first derivatives of a function and no second ones."""
    x, y = probe(problem)
    try:
        derive.second(function, x, y, torch.ones_like(y))
    except Unsupported:
        return True
    except Exception as error:
        raise AssertionError(_words(name, error, "cannot be differentiated twice")) from None
    return False


def _takes_rows(name: str, function: Callable[..., Any], problem: Problem) -> None:
    n = problem.n_f if name == "f" else problem.n_g
    if n < 2:
        return
    try:
        with torch.no_grad():
            function(problem.x0, problem.y0, torch.arange(1))
    except Exception as error:
        raise AssertionError(
            f"n_{name} = {n} promises minibatches, but {name}(x, y, rows) fails for rows = tensor([0]): {_first(error)}"
        ) from None


def _call(name: str, function: Callable[..., Any], x: Tensor, y: Tensor) -> Any:
    try:
        return function(x, y)
    except Exception as error:
        raise AssertionError(
            _words(name, error, f"(x, y) fails for x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}")
        ) from None


# What torch says of the usual slips -> what to do about it
SLIPS = {
    "in-place operation": "changes x or y in place; make new tensors",
    "inplace operation": "changes in place what its gradient needs; make new tensors",
    "numpy()": f"converts x or y to numpy, which cuts the gradient; {CUT}",
    "__array__": f"converts x or y to numpy, which cuts the gradient; {CUT}",
    "dtype": f"mixes dtypes; {HAND_OVER}",
    "scalar type": f"mixes dtypes; {HAND_OVER}",
    "same device": "mixes devices; hand all data over with rng.put",
}


def _words(name: str, error: Exception, otherwise: str) -> str:
    said = _first(error)
    for mark, words in SLIPS.items():
        if mark in said:
            return f"{name} {words} ({said})"
    return f"{name}{'' if otherwise.startswith('(') else ' '}{otherwise}: {type(error).__name__}: {said}"


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
