"""bilevelbench: a benchmark harness for bilevel-optimisation solvers.

    import bilevelbench as bb

    results = bb.run(["quadratic(kappa=100)"], ["bome(lr=0.01)", "aid_cg"], seeds=range(5), calls=20_000)
    results.leaders()

The public names are imported when they are first used, so that ``import bilevelbench`` does not wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.compare import run as run
    from .api.join import join as join
    from .api.papers import claims as claims
    from .api.papers import load_papers as load_papers
    from .api.papers import run_papers as run_papers
    from .api.publish import publish as publish
    from .api.reference import reference as reference
    from .api.results import Results as Results
    from .api.results import load as load
    from .api.solution import Solution as Solution
    from .api.solve import solve as solve
    from .api.status import status as status
    from .api.tune import tune as tune
    from .api.versions import compare as compare
    from .contract.examine import Seen as Seen
    from .contract.examine import examine as examine
    from .core.at import At as At
    from .core.draw import Draw as Draw
    from .core.errors import RequestError as RequestError
    from .core.errors import Unsupported as Unsupported
    from .core.flat import Flat as Flat
    from .core.library import Library as Library
    from .core.modules import from_modules as from_modules
    from .core.oracle import Oracle as Oracle
    from .core.outer import Inner as Inner
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
    from .core.space import Axis as Axis
    from .core.stream import Stream as Stream
    from .lower.star import LowerSolution as LowerSolution

_HOME = {
    "At": "core.at",
    "Axis": "core.space",
    "Bar": "core.problem",
    "Draw": "core.draw",
    "Flat": "core.flat",
    "Inner": "core.outer",
    "Library": "core.library",
    "LowerSolution": "lower.star",
    "Moments": "core.outer",
    "Oracle": "core.oracle",
    "Outer": "core.outer",
    "Picture": "core.problem",
    "Point": "core.solver",
    "Problem": "core.problem",
    "RequestError": "core.errors",
    "Results": "api.results",
    "Seen": "contract.examine",
    "Solution": "api.solution",
    "Stream": "core.stream",
    "Unsupported": "core.errors",
    "box": "core.problem",
    "build_problem": "core.resolve",
    "compare": "api.versions",
    "claims": "api.papers",
    "examine": "contract.examine",
    "from_modules": "core.modules",
    "join": "api.join",
    "load": "api.results",
    "load_papers": "api.papers",
    "make_solver": "core.resolve",
    "problem": "core.registry",
    "publish": "api.publish",
    "reference": "api.reference",
    "run": "api.compare",
    "run_papers": "api.papers",
    "solve": "api.solve",
    "solver": "core.registry",
    "status": "api.status",
    "tune": "api.tune",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bilevelbench")
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """``run`` is the function. The sub-package of that name is imported by its full name and hides nothing."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:  # what cloudpickle does for a plain module
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
