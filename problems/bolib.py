"""A selection of BOLIB: small problems with bounds, most of them not convex below, with optima recomputed."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.polynomial import Chebyshev
from torch import Tensor

from bilevelbench import Draw, Problem, problem

from ._bolib import INSTANCES, Instance

Name = Literal[
    "HenrionSurowiec2011", "LamparielloSagratella2017Ex32", "MacalHurter1997", "Mirrlees1999",
    "MitsosBarton2006Ex310", "MitsosBarton2006Ex311", "MitsosBarton2006Ex312", "MitsosBarton2006Ex313",
    "MitsosBarton2006Ex314", "MitsosBarton2006Ex315", "MitsosBarton2006Ex316", "MitsosBarton2006Ex317",
    "MitsosBarton2006Ex318", "MitsosBarton2006Ex319", "MitsosBarton2006Ex320", "MitsosBarton2006Ex321",
    "MitsosBarton2006Ex324", "PaulaviciusAdjiman2017a", "PaulaviciusAdjiman2017b", "DeSilva1978", "FalkLiu1995",
    "SinhaMaloDeb2014TP9", "LucchettiEtal1987", "MorganPatrone2006a", "KleniatiAdjiman2014Ex3",
]  # fmt: skip
TIE = 1e-12  # of g, relative to its range on the candidates, within which lower solutions count as equally good


@problem(
    "bolib",
    family="bolib",
    shows="global against local lower solutions, ties, jumps and corners: 25 small problems as one group",
)
def bolib(rng: Draw, name: Name = "Mirrlees1999", start: Literal["uniform", "middle"] = "uniform") -> Problem:
    """One problem of BOLIB (Zhou, Zemkoho, Tin: "BOLIB: Bilevel Optimization LIBrary of test problems", 2018).

    Smooth, without constraints or with bounds; the formulas are in ``_bolib.py``. BOLIB gives no starts: here uniform
    within the bounds by the seed, or the middle of the bounds, 0 where there are none (``middle``, with y0 = 0 or the
    bound nearest to it). y*(x) is global: of the bounds and all stationary points of g(x, .) within them those with the
    least g, and of these the one with the least f; stationary points are roots of a polynomial, exact for all but
    Mirrlees1999. Phi* was recomputed by brute force over x with a global lower solver; BOLIB's own values are not
    optimal in FalkLiu1995, MitsosBarton2006Ex318 and, below, Mirrlees1999. LuDebSinha2016b is left out for that reason.
    """
    instance = INSTANCES[name]
    x_range, y_range = instance.x or instance.draw, instance.y or (-2.0, 2.0)
    drawn = x_range if math.isfinite(x_range[1]) else instance.draw
    if start == "uniform":
        x0, y0 = rng.uniform(*drawn, instance.n), rng.uniform(*y_range, instance.n)
    else:
        middle = sum(x_range) / 2 if instance.x and math.isfinite(x_range[1]) else 0.0
        x0 = torch.full((instance.n,), middle, dtype=torch.float64)
        y0 = torch.zeros(instance.n, dtype=torch.float64).clamp(*y_range)

    return Problem(
        f=lambda x, y: instance.f(x, y).sum(),
        g=lambda x, y: instance.g(x, y).sum(),
        x0=x0,
        y0=y0,
        y_star=instance.answer or (lambda x: optimistic(instance, x)),
        phi_star=instance.phi,
        phi_star_source="brute force over x with a global lower solver, recomputed",
        project_x=_projection(instance.x),
        project_y=_projection(instance.y),
        flags=frozenset(instance.flags),
        selection="optimistic: of the stationary points and bounds with the least g, the one with the least f"
        if "multi_valued" in instance.flags
        else "",
        seeded=start == "uniform",
    )


def optimistic(instance: Instance, x: Tensor) -> Tensor:
    """The best of the global minimisers of g(x, .), one number; differentiable in x where it is a regular one."""
    assert instance.y is not None
    x64 = x.detach().double().cpu()
    values = {}
    points = [np.array(instance.y)]
    for name, function in (("g", instance.g), ("f", instance.f)):

        def along(y: np.ndarray, function=function) -> np.ndarray:
            return function(x64, torch.from_numpy(np.asarray(y))).numpy()

        values[name] = along
        roots = Chebyshev.interpolate(along, instance.degree, instance.y).deriv().roots()
        near = roots.real[np.abs(roots.imag) < 1e-6]
        points.append(near[(near > instance.y[0]) & (near < instance.y[1])])
    candidates = np.concatenate(points)
    g = values["g"](candidates)
    tied = candidates[g <= g.min() + TIE * (1 + np.abs(g).max())]
    best = torch.full_like(x.detach(), float(tied[values["f"](tied).argmin()]))
    return _attached(instance, x, best)


def _attached(instance: Instance, x: Tensor, y: Tensor) -> Tensor:
    """y with the derivative of the implicit function, -g_xy / g_yy, at a regular minimiser inside the bounds."""
    assert instance.y is not None
    if float(y) in instance.y:
        return y
    with torch.enable_grad():
        leaf = y.requires_grad_()
        (slope,) = torch.autograd.grad(instance.g(x, leaf).sum(), leaf, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), leaf, retain_graph=True)
    point = y.detach()
    if float(curvature) < 1e-6:  # a double root
        return point
    return point - (slope if x.requires_grad else slope.detach()) / curvature.detach()


def _projection(bounds):
    if bounds is None:
        return None
    return lambda point: torch.clamp(point, *bounds)
