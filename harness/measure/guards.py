"""What has to hold of a problem before anything is measured on it; otherwise the run is ``unsupported``.

f and g are functions of the point alone, they leave their data as they are, and a seed means one problem. What these
guards find, and digests by which the runs of all solvers can be compared, goes into the run's header.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver

from .level import Level

Build = Callable[[Draw], Problem]

SAME = 1e-9  # relative: two builds of one problem; a library may order its sums by where in memory the numbers lie
ROUNDED = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative: what f and g may differ in between two dtypes
UNORDERED = {torch.float64: 1e-9, torch.float32: 1e-3}  # relative: answers whose sums have no fixed order
NONE, OF_G = "none", "of g only"  # what ``second_derivatives`` begins with where some are lacking
WRONG = 0.1  # relative: a product this far from differences of gradients is no product with a second derivative
IN_PLACE = "it must make new tensors (a * 0.5, not a.mul_(0.5))"


def guard(build: Build, problem: Problem, rng: Draw, exact: Problem, exact_rng: Draw, solver: Solver) -> dict[str, Any]:
    """What a header's ``problem`` has under ``guards`` and ``digest``; ``Unsupported`` with fault "problem" otherwise.

    ``problem`` is the run's, drawn from ``rng``; ``exact`` another build in float64. ``build`` makes one more where
    rounding does not tell whether the two are the same. A solver of order 2 is refused, without that fault, where
    there are no second derivatives.
    """
    found = {"asked twice": asked_twice(problem, rng)}
    found["built twice"] = built_twice(build, problem, rng, exact, exact_rng)
    found["second derivatives"] = words = second_derivatives(exact)
    lacks, _, why = words.partition(": ")
    if (lacks == NONE and solver.order > 1) or (lacks == OF_G and "d2f" in solver.calls):
        raise Unsupported(f"{solver.name} needs second derivatives: {why}")
    if exact.notes:
        found["notes"] = "; ".join(exact.notes)
    return {"guards": found, "digest": digest(exact, rng, exact_rng)}


def digest(exact: Problem, rng: Draw, exact_rng: Draw) -> dict[str, Any]:
    """By what two runs of one problem and seed are compared.

    drawn: all that was drawn, the same on any machine. computed: start and data in float64, to the bit, the same on
    one machine, device and number of threads. numbers: f and g at the start and the norms of x0 and y0, the same to
    1e-9 on any.
    """
    x, y = exact.x0, exact.y0
    hashed = hashlib.blake2b(digest_size=8)
    for tensor in (x, y, *exact_rng.data):
        hashed.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for part in _bytes(tensor):
            hashed.update(part)
    values = (derive.value(exact.f, x, y), derive.value(exact.g, x, y), x.norm(), y.norm())
    return {"drawn": rng.digest, "computed": hashed.hexdigest(), "numbers": [float(value) for value in values]}


def asked_twice(problem: Problem, rng: Draw) -> str:
    """f and g have one value and one gradient at one point, and asking leaves start and data as they are."""
    held = [problem.x0, problem.y0, *rng.data]
    before = [_checksum(tensor) for tensor in held]
    ordered = torch.device(rng.device).type == "cpu" and torch.get_num_threads() == 1
    exactly = True
    for name, function in (("f", problem.f), ("g", problem.g)):
        writes = [_version(tensor) for tensor in held]
        first, second = _answers(function, problem)
        if writes != [_version(tensor) for tensor in held]:
            _unchanged(name, held, before)
        for what, one, other in zip(("value", "gradient in x", "gradient in y"), first, second, strict=True):
            if not _same_bits(one, other):
                exactly = False
                if ordered or not _close(one, other, UNORDERED.get(one.dtype, 1e-3)):
                    _unchanged(name, held, before)  # the better sentence
                    raise Unsupported(
                        f"{name} has another {what} when it is asked again at one point ({_number(one)}, then "
                        f"{_number(other)}); it must depend on the point alone: what is random comes from rng as the "
                        "problem is built, data are not changed in place, nothing is kept from call to call",
                        "problem",
                    )  # fmt: skip
    _unchanged("f or g", held, before)
    return "the same answers" if exactly else "the same answers, up to the order of sums, which is not fixed here"


def _answers(function: derive.Function, problem: Problem) -> list[tuple[Tensor, ...]]:
    """Value and gradients, twice; the second time in another order, so that what takes turns is seen, too."""
    x, y = problem.x0, problem.y0
    value, slopes = derive.value(function, x, y), derive.grad(function, x, y)
    again = derive.grad(function, x, y)
    return [(value, *slopes), (derive.value(function, x, y), *again)]


def _unchanged(name: str, held: Sequence[Tensor], before: Sequence[int]) -> None:
    for place, (tensor, kept) in enumerate(zip(held, before, strict=True)):
        if _checksum(tensor) != kept:
            what = ("x0", "y0")[place] if place < 2 else f"data ({_kind(tensor)}) that the problem put"
            raise Unsupported(f"{name} changes {what} in place when it is asked; {IN_PLACE}", "problem")


def built_twice(build: Build, problem: Problem, rng: Draw, exact: Problem, exact_rng: Draw) -> str:
    """Two builds of one seed have the same start, data and values."""
    difference = _difference(problem, rng, exact, exact_rng)
    if difference and rng.dtype != torch.float64:  # or is it rounding?
        again = Draw(rng.seed, rng.device, torch.float64)
        difference = _difference(build(again), again, exact, exact_rng)
    if difference:
        raise Unsupported(
            f"two builds with seed {rng.seed} differ in {difference}, so every solver would have another problem; draw "
            "from rng, or seed what else is drawn from (torch.manual_seed(rng.seed))", "problem",
        )  # fmt: skip
    return f"the same problem with seed {rng.seed}"


def _difference(problem: Problem, rng: Draw, exact: Problem, exact_rng: Draw) -> str:
    """The first of start, data and values in which a build differs from another one in float64; '' for none."""
    one, other = [problem.x0, problem.y0, *rng.data], [exact.x0, exact.y0, *exact_rng.data]
    if len(one) != len(other):
        return f"how many tensors they put ({len(rng.data)} and {len(exact_rng.data)})"
    for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        name = ("x0", "y0")[place] if place < 2 else f"data ({_kind(mine)})"
        if mine.shape != theirs.shape:
            return f"the shape of {name}: {tuple(mine.shape)} and {tuple(theirs.shape)}"
        rounded = theirs.to(mine.dtype)
        if not _same_bits(mine, rounded) and not (mine.dtype == theirs.dtype and _close(mine, rounded, SAME)):
            return name
    for name in ("f", "g"):
        mine = derive.value(getattr(problem, name), problem.x0, problem.y0)
        theirs = derive.value(getattr(exact, name), exact.x0, exact.y0)
        if not _close(mine.double(), theirs.double(), ROUNDED.get(mine.dtype, 1e-2), 1.0):
            return f"{name} at the start ({_number(mine)} and {_number(theirs)}; is all that f and g read put?)"
    return ""


def second_derivatives(problem: Problem) -> str:
    """Whether f and g can be differentiated twice at the start, in y.

    "there", "doubtful: ...", or with the reason and the remedy ``NONE`` or ``OF_G``. Not there are the second
    derivatives of torch's fused attention, say; doubtful those that a function of the user's own leaves out.
    """
    try:
        product = _product(problem.g, problem)
    except MemoryError:
        return "not tried: memory ran out"
    except Exception as error:
        return f"{NONE}: {_first(error)}"
    try:
        _product(problem.f, problem)
    except MemoryError:
        return "of g: of f they were not tried, memory ran out"
    except Exception as error:
        return f"{OF_G}: {_first(error)}"
    size, other = float(product.norm()), float(_slope_of_gradient(problem).norm())
    if "nonsmooth" not in problem.flags and abs(size - other) > WRONG * max(size, other):
        return f"doubtful: a product with that of g has norm {size:.3g}, by differences of gradients {other:.3g}"
    return "there"


def _product(function: derive.Function, problem: Problem) -> Tensor:
    try:
        product = derive.second(function, problem.x0, problem.y0, _direction(problem))[1]
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError from error
        raise
    assert product is not None
    return product


def _slope_of_gradient(problem: Problem) -> Tensor:
    """The product of g's Hessian in y with ``_direction`` by central differences of gradients, in y's own units."""
    return Level(problem.g, problem.x0, twice=False).hessian(problem.y0)(_direction(problem))


def _direction(problem: Problem) -> Tensor:
    v: Tensor = torch.nn.functional.normalize(Draw(0).normal(problem.y0.numel()), dim=0)
    return v.to(problem.y0)


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _bytes(tensor: Tensor) -> list[Any]:
    """A tensor's numbers as bytes, on the CPU; those of its parts where it is sparse."""
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        return [part for each in (tensor._indices(), tensor._values()) for part in _bytes(each)]
    if tensor.layout == torch.sparse_csr:
        return [p for each in (tensor.crow_indices(), tensor.col_indices(), tensor.values()) for p in _bytes(each)]
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return [tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()]


def _checksum(tensor: Tensor) -> int:
    total = 0
    for part in _bytes(tensor):
        total = zlib.crc32(part, total)
    return total


def _version(tensor: Tensor) -> int:
    """How often torch wrote into a tensor: tells f's writing from g's without a look at the numbers."""
    return tensor._version


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and (torch.equal(one, other) or _checksum(one) == _checksum(other))  # NaN is itself


def _close(one: Tensor, other: Tensor, tolerance: float, least: float = 0.0) -> bool:
    """Whether two tensors agree relative to their norm, and in where they are not finite."""
    if not one.is_floating_point():
        return torch.equal(one, other)
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return False
    one, other = one[finite], other[finite]
    apart = float((one - other).norm())
    return apart <= tolerance * max(float(one.norm()), least)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _number(tensor: Tensor) -> str:
    return f"{float(tensor):.6g}" if tensor.numel() == 1 else f"norm {float(tensor.norm()):.6g}"
