"""One side of a comparison of two versions: a process that steps solvers when it is told to.

It is run as a script by the interpreter and with the packages of the version that is measured (``python -P side.py``).
So both sides are measured by these same lines, which use of bilevelbench only what its versions have in common. Lines
of JSON come in by the standard input, an answer to each goes out; what a solver prints goes to the standard error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

STEPS = 8  # of a run that is looked at: calls, iterates, operations
MOST = 10_000  # numbers of x and y, above which only a digest of them is compared
BLOCK = 0.012  # CPU seconds between two readings: the clock's own cost is a thousandth of it
SIZES = (64, 1024, 256)  # of y at which bytes are measured: small, large, large where a step asks n times


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the operations that torch carries out, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


# the first call of a wrapped one would import torch's compiler: 5 s
Operations.__torch_dispatch__ = getattr(  # type: ignore[method-assign]
    Operations.__torch_dispatch__, "__wrapped__", Operations.__torch_dispatch__
)


class Cell:
    """A solver on a problem, from the problem's start."""

    def __init__(self, problem: str, solver: str, device: str) -> None:
        from bilevelbench.core.draw import Draw
        from bilevelbench.core.resolve import build_problem, make_solver
        from bilevelbench.core.solver import require

        self.device, self.name = device, solver
        self.solver, self.problem = make_solver(solver), build_problem(problem, Draw(0, device))
        require(self.solver, self.problem)

    def begin(self) -> tuple[Any, Any]:
        """An oracle, and the first state."""
        from bilevelbench.core.oracle import Oracle
        from bilevelbench.core.solver import start

        oracle = Oracle(self.problem, 0)
        return oracle, start(self.solver, self.problem, oracle)

    def steps(self, count: int) -> float:
        """Seconds of the first steps: of the CPU, or on another device by the wall, after it has done its work."""
        oracle, state = self.begin()
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        self.wait()
        since = clock()
        for k in range(count):
            oracle.begin(k)
            state = self.solver.step(oracle, state)
        self.wait()
        return clock() - since

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def block(self) -> int:
        """How many steps are a block."""
        self.steps(1)
        return min(50, max(1, math.ceil(BLOCK / max(1e-6, self.steps(2) / 2))))

    def exact(self) -> dict[str, Any]:
        """Calls, passes and operations of the first steps, and where each of them ended."""
        oracle, state = self.begin()
        calls, passes = Counter(oracle.calls), Counter(getattr(oracle, "passes", {}))
        digests, points, mode = [], [], Operations()
        for k in range(STEPS):
            oracle.begin(k)
            with mode:
                state = self.solver.step(oracle, state)
            point = torch.cat([state.x.reshape(-1), state.y.reshape(-1)]).detach().cpu()
            digests.append(hashlib.sha256(point.numpy().tobytes()).hexdigest())
            points.append(point.double().tolist() if point.numel() <= MOST else [])
        return {
            "calls": Counter(oracle.calls) - calls, "passes": Counter(getattr(oracle, "passes", {})) - passes,
            "operations": mode.seen, "digests": digests, "points": points, "steps": STEPS, **self.bytes(),
        }  # fmt: skip

    def bytes(self) -> dict[str, Any]:
        """Peak of live bytes on the problem, and the power of n with which it grows on a quadratic; as far as the
        version measures bytes, and the solver takes a quadratic."""
        from bilevelbench.core.errors import RequestError, Unsupported

        try:
            from bilevelbench.measure.memory import peak
        except ImportError:
            return {}
        found: dict[str, Any] = {"bytes": peak(self.problem, self.solver, steps=3)["peak_bytes"]}
        try:
            small = Cell(f"quadratic(d={SIZES[0]})", self.name, self.device)
            oracle, state = small.begin()
            before = sum(oracle.calls.values())
            small.solver.step(oracle, state)
            many = sum(oracle.calls.values()) - before >= SIZES[0]
            sizes = SIZES[0], SIZES[2] if many else SIZES[1]
            cells = [small, Cell(f"quadratic(d={sizes[1]})", self.name, self.device)]
            peaks = [peak(cell.problem, cell.solver, steps=2)["peak_bytes"] for cell in cells]
            found["exponent"] = math.log(peaks[1] / peaks[0]) / math.log(sizes[1] / sizes[0])
        except (RequestError, Unsupported):
            pass
        return found


def answer(cells: dict[str, Cell], request: dict[str, Any]) -> Any:
    """What a request asks for."""
    ask, name = request.pop("ask"), request.pop("cell", "")
    if ask == "about":
        import bilevelbench

        return {"file": bilevelbench.__file__, "torch": torch.__version__, "python": sys.version.partition(" ")[0]}
    if ask == "solvers":
        from bilevelbench.core.registry import SOLVERS

        return SOLVERS.names()
    if ask == "open":
        cells[name] = Cell(**request)
        return {}
    return getattr(cells[name], ask)(**request)


def main() -> None:
    """Answer until nothing more is asked."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a solver that prints must not speak for us
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    cells: dict[str, Cell] = {}
    for line in sys.stdin:
        try:
            found = {"found": answer(cells, json.loads(line))}
        except Exception as error:
            found = {"error": type(error).__name__, "words": str(error).strip().partition("\n")[0]}
        out.write(json.dumps(found) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
