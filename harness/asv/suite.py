"""The suite for the solvers of another library, in its own benchmark folder for asv:

    from bilevelbench.asv import suite

    globals().update(suite.of(solvers=["mine"], problems=["quadratic(d=100)"]))

``mine`` is a name that the library registers by the entry point ``bilevelbench.solvers``, so that each commit has its
own. asv then follows calls, bytes, calls to the target, the ratio to the floor, and CPU seconds.
"""

from collections.abc import Sequence

from bilevelbench.asv import exact, speed

CLASSES = (exact.Calls, exact.Memory, exact.Target, speed.Floor, speed.Time)


def of(solvers: Sequence[str], problems: Sequence[str] = ("quadratic",)) -> dict[str, type]:
    """Benchmark classes by name, for these solvers and problems: lists that only grow at the end, for asv counts."""
    if not solvers or not problems or isinstance(solvers, str) or isinstance(problems, str):
        raise ValueError(f"solvers={solvers!r}, problems={problems!r}: both are lists of at least one name")
    params = (list(problems), list(solvers))
    return {one.__name__: type(one.__name__, (one,), {"params": params, "__doc__": one.__doc__}) for one in CLASSES}
