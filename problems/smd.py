"""The SMD suite: scalable test problems whose upper objective looks better than its optimum off the lower solution."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bilevelbench import Draw, Problem, problem

EDGE = 1e-3  # how far open ranges of d stay from where tan and log end
QUARTER = math.pi / 2 - EDGE
WIDE = (-5.0, 10.0)
RANGES = {  # of b and d; a and c are in [-5, 10]
    1: (WIDE, (-QUARTER, QUARTER)), 2: ((-5.0, 1.0), (EDGE, math.e)), 3: (WIDE, (-QUARTER, QUARTER)),
    4: ((-1.0, 1.0), (0.0, math.e)), 5: (WIDE, WIDE), 6: (WIDE, WIDE), 7: ((-5.0, 1.0), (EDGE, math.e)),
    8: (WIDE, WIDE), 10: (WIDE, (-QUARTER, QUARTER)), 11: ((-1.0, 1.0), (1 / math.e, math.e)),
    12: ((-1.0, 1.0), (-math.pi / 4, math.pi / 4)),
}  # fmt: skip
FLAGS = {
    1: ("nonconvex",), 2: ("nonconvex",), 3: ("nonconvex",), 4: ("nonconvex", "nonsmooth", "boundary"),
    5: ("nonconvex", "multi_valued", "nonsmooth"), 6: ("convex", "multi_valued"), 7: ("nonconvex",),
    8: ("nonconvex", "nonsmooth"), 10: ("nonconvex", "boundary"), 11: ("nonconvex", "multi_valued", "boundary"),
    12: ("nonconvex", "multi_valued", "nonsmooth", "boundary"),
}  # fmt: skip
SELECTION = {
    5: "optimistic: f is the same at d = sqrt|b| and at -sqrt|b|",
    6: "optimistic: of c_i = c_i+1 the one with c = 0, in closed form",
    11: "of b - log d with square sum 1 the one that the upper constraints allow, if any; f is the same at all",
    12: "of b - tan d with square sum 1 the one that the upper constraints allow, if any",
}


class Parts(NamedTuple):
    """x = (a, b), y = (c, d)."""

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor


@problem(
    "smd",
    family="nonconvex",
    shows="an f that falls below its optimum off the lower solution; ranges, tan and log that must be kept",
)
def smd(
    rng: Draw, number: Literal[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] = 1, p: int = 1, q: int = 2, r: int = 1, s: int = 2
) -> Problem:
    """SMD1 to 8 and 10 to 12 (Sinha, Malo, Deb, Evolutionary Computation 2014), a in R^p, b, d in R^r, c in R^q.

    f = F1(a) + F2(c) + F3(b, d),  g = f1(a) + f2(c) + f3(b, d), written out in ``upper`` and ``lower``; in SMD6 the
    last ``s`` entries of c are the flat pairs. The default is the 5-D instance, p = 3, q = 3, r = 2 the 10-D one (SMD6
    with s = 2). F2 and F3 hold the negative of what g minimises in 2, 4 to 8 and 11: judged by f(x, y) a method looks
    the better the worse it solves the lower level. 9 has floor() in its constraints and is left out. Bounds are part of
    the problem, those of the C code by Mejía-de-Dios, with open ranges cut at 1e-3; starts are uniform in them. 10 and
    12 hold h_f: x_i >= sum_{j != i} x_j^3 above and h_g: the same of c below; 11 and 12 hold b - log d >= 1/sqrt r, or
    b - tan d >= 0, above and |b - log d|^2 >= 1, or |b - tan d|^2 >= 1, below. Their published solution, 1/sqrt(p + r -
    1) in x and 1/sqrt(q - 1) in c, is not the least from 20 variables on, and in 12, for p and r > 1, not
    optimistic: of the d that are as good below another has a smaller f.
    """
    if min(p, q, r) < 1 or (number in (5, 8, 10, 12) and q < 2) or (number == 6 and not 0 <= s <= q):
        raise ValueError("p, q, r are at least 1, q at least 2 in SMD5, 8, 10 and 12, and s is at most q")
    if number in (10, 12) and (max(p + r, q) > 16 or p + r < 2):
        raise ValueError("p + r and q are at most 16 in SMD10 and SMD12: the published solution is not the least later")
    if number == 12 and r > 1:
        raise ValueError(
            "r is 1 in SMD12: for larger r no y*(x) is given, and the published solution is not the optimistic one"
        )
    b_range, d_range = RANGES[number]
    lows, highs = ([WIDE[i]] * p + [b_range[i]] * r + [WIDE[i]] * q + [d_range[i]] * r for i in (0, 1))
    low, high = torch.tensor(lows, dtype=torch.float64), torch.tensor(highs, dtype=torch.float64)
    start = low + (high - low) * rng.uniform(0, 1, p + q + 2 * r)
    low, high = rng.put(low, high)
    n = p + r

    def parts(x: Tensor, y: Tensor) -> Parts:
        return Parts(x[:p], x[p:], y[:q], y[q:])

    def cubes(v: Tensor) -> Tensor:
        return (v**3).sum() - v**3 - v

    def h_f(x: Tensor, y: Tensor) -> Tensor:
        miss = (1 / math.sqrt(r) if number == 11 else 0.0) - gap(number, parts(x, y))
        return {10: cubes(x), 11: miss}.get(number, torch.cat([cubes(x), miss]))

    def h_g(x: Tensor, y: Tensor) -> Tensor:
        z = parts(x, y)
        apart = 1 - gap(number, z).square().sum().reshape(1)
        return {10: cubes(z.c), 11: apart}.get(number, torch.cat([cubes(z.c), apart]))

    held = number >= 10
    return Problem(
        f=lambda x, y: upper(number, parts(x, y), s),
        g=lambda x, y: lower(number, parts(x, y), s),
        x0=start[:n],
        y0=start[n:],
        y_star=lambda x: torch.cat([solution(number, x, q), inverse(number, x[p:], r)]),
        phi_star=optimum(number, p, q, r),
        phi_star_source="closed form: the published solution" if held else "closed form: 0 at the published solution",
        project_x=lambda x: torch.clamp(x, low[:n].to(x), high[:n].to(x)),
        project_y=lambda y: torch.clamp(y, low[n:].to(y), high[n:].to(y)),
        h_f=h_f if held else None,
        h_g=h_g if held else None,
        flags=frozenset(FLAGS[number]),
        selection=SELECTION.get(number, ""),
    )


def gap(number: int, z: Parts) -> Tensor:
    """What f3 is the square sum of: b less a function of d."""
    if number in (1, 10, 12):
        return z.b - torch.tan(z.d)
    if number in (2, 7, 11):
        return z.b - torch.log(z.d)
    if number == 3:
        return z.b**2 - torch.tan(z.d)
    if number == 4:
        return z.b.abs() - torch.log1p(z.d)
    return {5: z.b.abs() - z.d**2, 6: z.b - z.d}.get(number, z.b - z.d**3)


def rosenbrock(c: Tensor) -> Tensor:
    """0 at c = 1."""
    return (c[1:] - c[:-1] ** 2).square().sum() + (c[:-1] - 1).square().sum()


def upper(number: int, z: Parts, s: int) -> Tensor:
    """f of the suite, in its letters F."""
    a, b, c, _ = z
    apart = gap(number, z).square().sum()
    if number in (10, 12):
        first, third = (a - 2).square().sum(), (b - 2).square().sum() - apart
        return first + c @ c + third + (torch.tan(z.d.abs()).sum() if number == 12 else 0)
    if number == 7:
        roots = torch.arange(1, len(a) + 1).to(a).sqrt()
        first = 1 + a @ a / 400 - torch.cos(a / roots).prod()
    elif number == 8:
        first = 20 + math.e - 20 * torch.exp(-0.2 * (a @ a / len(a)).sqrt()) - torch.exp(torch.cos(math.tau * a).mean())
    else:
        first = a @ a
    if number in (1, 3):
        return first + c @ c + b @ b + apart
    if number == 6:
        flat = c[len(c) - s :]
        return first - c @ c + 2 * flat @ flat + b @ b - apart
    return first - (rosenbrock(c) if number in (5, 8) else c @ c) + b @ b - apart


def lower(number: int, z: Parts, s: int) -> Tensor:
    """g of the suite, in its letters f."""
    a, _, c, _ = z
    third = gap(number, z).square().sum()
    first = {7: (a**3).sum(), 8: a.abs().sum()}.get(number, a @ a)
    if number in (3, 4):
        return first + len(c) + (c**2 - torch.cos(math.tau * c)).sum() + third
    if number in (5, 8):
        return first + rosenbrock(c) + third
    if number == 6:
        head, flat = c[: len(c) - s], c[len(c) - s :]
        even = len(flat) // 2 * 2  # an odd last one is free altogether
        return first + head @ head + (flat[1:even:2] - flat[0:even:2]).square().sum() + third
    return first + ((c - 2).square().sum() if number in (10, 12) else c @ c) + third


def solution(number: int, x: Tensor, q: int) -> Tensor:
    """c*, which does not depend on x."""
    return x.new_full(
        (q,), {5: 1.0, 8: 1.0, 10: (q - 1.0) ** -0.5 if q > 1 else 0.0}.get(10 if number == 12 else number, 0.0)
    )


def inverse(number: int, b: Tensor, r: int) -> Tensor:
    """d*(b): where ``gap`` vanishes, or is +-1/sqrt r in 11 and 12, + wherever the range of d has it."""
    if number in (11, 12):
        root = 1 / math.sqrt(r)
        level = torch.where(b >= root - 1, b - root, b + root)
        return torch.exp(level) if number == 11 else torch.atan(level)
    if number in (1, 3, 10):
        return torch.atan(b**2 if number == 3 else b)
    if number in (2, 7):
        return torch.exp(b)
    if number == 8:
        return b.sign() * b.abs() ** (1 / 3)
    return {4: torch.expm1(b.abs()), 5: b.abs().sqrt()}.get(number, b)


def optimum(number: int, p: int, q: int, r: int) -> float:
    """Phi*: 0, or f at the published solution of 10 to 12."""
    if number < 10:
        return 0.0
    if number == 11:
        return -1.0
    entry, root = (p + r - 1) ** -0.5, r**-0.5
    value = (p + r) * (entry - 2) ** 2 + q / (q - 1)
    return value if number == 10 else value + abs(entry - root) - 1
