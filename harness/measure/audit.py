"""A run's start and one window of its steps, made again in a fresh process and compared: counts and iterates.

What a solver keeps outside its state (module globals, class attributes, caches), and what it leaves undone when nobody
times it, shows as a difference. And what the clock leaves no time for is looked at here: while no answer is being given
nobody may run the problem's own functions, however they were come by (a closure, the garbage collector, the registry,
an import), nor touch its data; answers carry no graph, and are asked for at plain tensors.

It is made by the eager engine whatever the run's own is. Python is watched, native code is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevelbench.core import derive
from bilevelbench.core.door import WORTH
from bilevelbench.core.meter import Counts, Meter, Tally, metered, value_of
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start, stretch

from . import hook
from .failure import Foul
from .intact import Intact
from .marks import collect, kinds, pack, read, unpack
from .same import nudged, unequal
from .seal import Seal
from .watcher import Watcher, watched_problem

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of an iterate, relative to its largest entry: torch's kernels sum
# in another order where memory is aligned in another way
LOOSE = {torch.float64: 1e-6, torch.float32: 1e-3}  # where the run's own engine was another


def replay(
    problem: Problem, solver: Solver, seed: int, states: Path, window: tuple[int, int], data: Sequence[Tensor] = (),
    loose: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Make the start, the first step and a window of a run again, and say whether they are the same.

    problem, solver, seed: those of the run, built in a fresh process, which has made no step of it. states, window: a
    folder that ``Marks`` wrote, and what ``marks.draw`` drew from it. data: what the problem put (``Draw.data``).
    loose: the run's engine was not the eager one.

    ok: whether all is the same. reason: one sentence where it is not, and fault: whose it is. from, to: the window.
    """
    found: dict[str, Any] = {"ok": True, "from": window[0], "to": window[1]}
    try:
        audit = _Audit(problem, solver, seed, states, data, LOOSE if loose else CLOSE)
        if window[1] > 1:
            audit.again(window)
        audit.begin()
    except BaseException as error:
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        if not isinstance(error, Foul | hook.Refused):
            words = f"when it was made again it raised {type(error).__name__}: {words}"
        found |= {"ok": False, "reason": words[:300], "fault": getattr(error, "fault", "solver")}
    return found


class _Watched(Oracle):
    """An oracle that opens and closes the door, and looks at who comes in."""

    def __init__(self, problem: Problem, seed: int, tally: Tally, watcher: Watcher, intact: Intact) -> None:
        super().__init__(problem, seed, derive, tally)
        self._watcher, self._intact = watcher, intact

    def begin(self, step: int) -> None:
        """The harness's own call: a problem that changes with the step says what this one is about."""
        self._let(super().begin, step)

    def _renewed(self, s: Any) -> Any:
        return self._let(super()._renewed, s)

    def _let(self, call: Callable[[Any], Any], argument: Any) -> Any:
        self._watcher.open = True
        try:
            with torch._C._DisableTorchDispatch():
                return call(argument)
        finally:
            self._watcher.open = False

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in WORTH:
            return method
        watcher: Watcher = super().__getattribute__("_watcher")
        intact: Intact = super().__getattribute__("_intact")

        def answered(*arguments: Any, **named: Any) -> Any:
            if watcher.open:  # a question that the oracle asks itself
                return method(*arguments, **named)
            watcher.open = True
            try:
                if said := _odd((*arguments, *named.values())):
                    raise Foul(said)
                if said := intact.answering():
                    raise Foul(f"the solver changed {said} while the oracle is asked")
                with torch._C._DisableTorchDispatch():
                    return watcher.own(method(*arguments, **named))
            finally:
                watcher.open = False

        return answered


def _odd(arguments: tuple[Any, ...]) -> str:
    """What is wrong with the way in which an answer is asked for, or ''."""
    for argument in arguments:
        if isinstance(argument, Tensor) and type(argument) is not Tensor:
            return f"the oracle is asked at a {type(argument).__name__}, which is no plain tensor"
    modes = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack() > 1
    if modes or forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None:
        return "the oracle is asked within a mode or a transformation of torch, which sees what the answer is made of"
    return ""


class _Audit:
    """The parts of a replay; each raises ``Foul`` where something is not as it was."""

    def __init__(
        self, problem: Problem, solver: Solver, seed: int, states: Path, data: Sequence[Tensor], close: dict[Any, float]
    ) -> None:
        hook.install()
        self._intact = Intact()
        self._entered = count()
        self._problem, codes = watched_problem(problem, self._entered)
        self._solver, self._seed, self._states, self._close = solver, seed, states, close
        self._watcher = Watcher(problem, codes, data, _file(solver))
        self._kinds = kinds(solver)

    def begin(self) -> None:
        """The start and the first step."""

        def init(oracle: Oracle, _: Any) -> Any:
            return start(self._solver, self._problem, oracle)

        state = self._compare((0, 0), init, None, "its init")
        if (self._states / "0-1.pt").exists():
            self._compare((0, 1), self._steps(0, 1), state, "its first step")

    def again(self, window: tuple[int, int]) -> None:
        """A window of steps from the state recorded at its begin."""
        packed, _, _ = read(self._states, window)
        try:
            state = unpack(packed, self._kinds, self._problem.x0.device)
        except KeyError:  # a NamedTuple that is nowhere to be found by name
            oracle = Oracle(metered(self._problem, Meter()), self._seed)
            collect(start(self._solver, self._problem, oracle), self._kinds)
            state = unpack(packed, self._kinds, self._problem.x0.device)
        words = f"step {window[1]}" if window[1] - window[0] == 1 else f"steps {window[0] + 1} to {window[1]}"
        self._compare(window, self._steps(*window), state, words)

    def _steps(self, first: int, last: int) -> Callable[[Oracle, Any], Any]:
        return lambda oracle, state: stretch(self._solver, oracle, state, first, last)

    def _compare(self, window: tuple[int, int], work: Callable[[Oracle, Any], Any], begin: Any, words: str) -> Any:
        tally, meter, watcher = Tally(), Meter(), self._watcher
        oracle = _Watched(metered(self._problem, meter), self._seed, tally, watcher, self._intact)
        seal = Seal(oracle, tally, meter, self._intact)
        before = value_of(self._entered)
        with watcher:
            state = work(oracle, begin)
        if watcher.found:
            raise Foul(f"in {words} {watcher.found}")
        seal.look(self._intact.untouched())
        _, after, counts = read(self._states, window)
        again = tally.read()
        same = _answers if self._close is LOOSE else dict  # another engine may keep less, or more
        if same(again) != same(counts):
            raise Foul(
                f"{words}, made again from the same state, asks {_asks(again)}; in the run it was {_asks(counts)}"
            )
        accounted = sum(n for (_, _, passes), n in again.items() if "f" in passes)
        if (seen := value_of(self._entered) - before) != accounted:
            raise Foul(f"in {words} the problem was asked {seen} times and the oracle accounts for {accounted}")
        said = unequal(pack(state), after, self._close, self._kinds)
        if said and self._close is LOOSE and begin is not None:
            other = work(Oracle(metered(self._problem, Meter()), self._seed), self._nudged(begin))
            said = unequal(pack(state), after, self._close, self._kinds, pack(other))
        if said:
            raise Foul(f"{words}, made again from the same state, ends elsewhere: {said}")
        return state

    def _nudged(self, state: Any) -> Any:
        return unpack(nudged(pack(state)), self._kinds, self._problem.x0.device)


def _answers(counts: Counts) -> dict[tuple[str, int | None], int]:
    """Answers by kind and rows, whatever passes they took."""
    found: dict[tuple[str, int | None], int] = {}
    for (kind, size, _), n in counts.items():
        found[kind, size] = found.get((kind, size), 0) + n
    return found


def _asks(counts: Counts) -> str:
    by_kind: dict[str, int] = {}
    for (kind, size, _), n in sorted(counts.items(), key=str):
        words = kind if size is None else f"{kind} of {size} rows"
        by_kind[words] = by_kind.get(words, 0) + n
    return ", ".join(f"{n} {kind}" for kind, n in by_kind.items()) or "nothing"


def _file(solver: Solver) -> str:
    step = getattr(type(solver).step, "__code__", None)
    return step.co_filename if step else ""
