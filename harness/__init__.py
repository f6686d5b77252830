"""bilevelbench: a benchmark harness for bilevel-optimisation solvers.

The public names are imported when they are first used, so that ``bilevelbench --version`` does not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.at import At as At
    from .core.draw import Draw as Draw
    from .core.errors import RequestError as RequestError
    from .core.errors import Unsupported as Unsupported
    from .core.flat import Flat as Flat
    from .core.modules import from_modules as from_modules
    from .core.oracle import Oracle as Oracle
    from .core.outer import Moments as Moments
    from .core.outer import Outer as Outer
    from .core.problem import Bar as Bar
    from .core.problem import Picture as Picture
    from .core.problem import Problem as Problem
    from .core.problem import box as box
    from .core.registry import problem as problem
    from .core.registry import solver as solver
    from .core.resolve import build_problem as build_problem
    from .core.resolve import make_solver as make_solver
    from .core.solver import Point as Point

_HOME = {
    "At": "at",
    "Bar": "problem",
    "Draw": "draw",
    "Flat": "flat",
    "Moments": "outer",
    "Oracle": "oracle",
    "Outer": "outer",
    "Picture": "problem",
    "Point": "solver",
    "Problem": "problem",
    "RequestError": "errors",
    "Unsupported": "errors",
    "box": "problem",
    "build_problem": "resolve",
    "from_modules": "modules",
    "make_solver": "resolve",
    "problem": "registry",
    "solver": "registry",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("bilevelbench")
    if name in _HOME:
        return getattr(import_module(f".core.{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
