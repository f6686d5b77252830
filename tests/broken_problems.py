"""Problems that each break one line of what a problem says of its answers."""

import torch

from bilevelbench import Bar, Draw, Problem, box, problem


def _parts(rng: Draw) -> dict:
    """g = y1^2/2 - x y1 leaves y2 free; f wants y2 = x."""
    return {
        "f": lambda x, y: 0.5 * (x[0] - y[1]) ** 2 + 0.5 * (y[0] - 1) ** 2,
        "g": lambda x, y: 0.5 * y[0] ** 2 - x[0] * y[0],
        "x0": rng.normal(1),
        "y0": rng.normal(2),
        "y_star": lambda x: torch.cat([x, x]),
        "flags": frozenset({"convex", "multi_valued"}),
        "selection": "optimistic: y2 = x",
    }


@problem("says_no_selection")
def says_no_selection(rng: Draw) -> Problem:
    return Problem(**{**_parts(rng), "selection": ""})


@problem("not_optimistic")
def not_optimistic(rng: Draw) -> Problem:
    return Problem(**{**_parts(rng), "y_star": lambda x: torch.cat([x, x + 4])})


@problem("only_local")
def only_local(rng: Draw) -> Problem:
    """g = (y^2 - 1)^2 + y/4 has its global minimiser near -1; y_star follows the other one."""

    def local(x: torch.Tensor) -> torch.Tensor:
        y = torch.ones_like(x)
        for _ in range(20):
            y = y - (4 * y * (y**2 - 1) + 0.25) / (12 * y**2 - 4)
        return y

    parts = {"f": lambda x, y: (x - y).square().sum(), "g": lambda x, y: ((y**2 - 1) ** 2 + y / 4).sum()}
    return Problem(**parts, x0=rng.normal(1), y0=rng.normal(1), y_star=local, flags=frozenset({"nonconvex"}))


def _with_lines(rng: Draw, **other) -> Problem:
    parts = {
        "metrics": lambda x, y: {"error": float(x.norm())}, "better": {"error": "lower"},
        "references": lambda: {"start": {"error": 1.0}}, "bar": Bar("error", ("start",)),
    }  # fmt: skip
    return Problem(**{**_parts(rng), **parts, **other})


@problem("no_such_figure")
def no_such_figure(rng: Draw) -> Problem:
    return _with_lines(rng, better={"error": "lower", "accuracy": "higher"})


@problem("no_such_line")
def no_such_line(rng: Draw) -> Problem:
    return _with_lines(rng, bar=Bar("error", ("start", "validation only")))


@problem("no_bar")
def no_bar(rng: Draw) -> Problem:
    return _with_lines(rng, bar=None)


def _coupled(rng: Draw, **other) -> Problem:
    """min 1/2 |y|^2 subject to y1 + y2 >= x: y* = (x, x) / 2 for x > 0."""

    def nearest(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        short = torch.relu(x - y.sum()) / 3
        return x - short, y + short

    parts = {
        "f": lambda x, y: (y - 1).square().sum() + x.square().sum(),
        "g": lambda x, y: 0.5 * y @ y,
        "x0": 2 + rng.uniform(0, 1, 1),
        "y0": 3 + rng.uniform(0, 1, 2),
        "y_star": lambda x: torch.relu(x).expand(2) / 2,
        "h_g": lambda x, y: x - y.sum().reshape(1),
        "project_xy": nearest,
        "phi_star": 4 / 3,
        "phi_star_source": "closed form",
        "flags": frozenset({"strongly_convex"}),
    }
    return Problem(**{**parts, **other})


@problem("coupled")
def coupled(rng: Draw) -> Problem:
    return _coupled(rng)


@problem("infeasible")
def infeasible(rng: Draw) -> Problem:
    return _coupled(rng, y_star=lambda x: torch.relu(x).expand(2) / 2.01)


@problem("not_optimal_on_the_constraint")
def not_optimal_on_the_constraint(rng: Draw) -> Problem:
    return _coupled(rng, y_star=lambda x: torch.relu(x) * torch.tensor([0.6, 0.4]).to(x))


@problem("ignores_the_constraint")
def ignores_the_constraint(rng: Draw) -> Problem:
    return _coupled(rng, y_star=lambda x: torch.relu(x).expand(2) / 1.5)


@problem("projects_too_far")
def projects_too_far(rng: Draw) -> Problem:
    return _coupled(rng, project_xy=lambda x, y: (x, y + torch.relu(x - y.sum()) / 2), y0=rng.normal(2))


@problem("wrong_constraint")
def wrong_constraint(rng: Draw) -> Problem:
    return _coupled(rng, h_g=lambda x, y: x.detach() - y.sum().reshape(1))


@problem("off_the_bounds")
def off_the_bounds(rng: Draw) -> Problem:
    parts = {"f": lambda x, y: (y - 1).square().sum(), "g": lambda x, y: (y - x).square().sum()}
    start = {"x0": 2 + rng.uniform(0, 1, 2), "y0": rng.uniform(0, 1, 2)}
    return Problem(**parts, **start, y_star=lambda x: x, project_y=box(-1, 1))


@problem("wrong_second_derivatives")
def wrong_second_derivatives(rng: Draw) -> Problem:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        slope = 2 * (y.detach() - x.detach())  # right values and gradients, constant to the second derivative
        return (y - x).detach().square().sum() + slope @ (y - y.detach()) - slope @ (x - x.detach())

    return Problem(f=f, g=lambda x, y: (y - x).square().sum(), x0=rng.normal(2), y0=rng.normal(2))
