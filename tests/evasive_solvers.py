"""Solvers that get more than they are charged for, each in a way of its own, as a loose file for tests of the harness.

Each takes one counted gradient a step, and more work past the counters, the clock or both. ``evasions``
says by which guard each is found. They are loaded in forks only: a registry that knows them is no good to other tests.
"""

import _thread
import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
import weakref
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevelbench import Draw, Oracle, Point, build_problem, solver
from bilevelbench.core import derive, registry, resolve
from bilevelbench.measure import clock, trace
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.intact import Intact
from bilevelbench.measure.seal import Seal

SCRATCH = Path(os.environ.get("EVASIVE_SCRATCH", "/nonexistent"))


def descend(g, x, y, n=20):
    """Gradient descent on g(x, .), nobody counting."""
    for _ in range(n):
        leaf = y.detach().requires_grad_()
        with torch.enable_grad():
            (d,) = torch.autograd.grad(g(x, leaf), leaf)
        y = y - 0.1 * d
    return y


class Cheat:
    """One counted gradient, then the trick."""

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        return Point(x - 0.01 * o.df_x(x, y), self.trick(o, x, y - 0.1 * o.dg_y(x, y)))


def raw(wrapper):
    """The function in a metered wrapper's closure."""
    found = [cell.cell_contents for cell in wrapper.__closure__]
    return next(value for value in found if isinstance(value, types.FunctionType))


# -- the problem's functions, come by in every way


@solver("by_attribute")
class ByAttribute(Cheat):
    def trick(self, o, x, y):
        return descend(o._problem.g, x, y)


@solver("by_closed_form")
class ByClosedForm(Cheat):
    def trick(self, o, x, y):
        return o._problem.y_star(x).detach()


@solver("by_closure")
class ByClosure(Cheat):
    def trick(self, o, x, y):
        return descend(raw(o._problem.g), x, y)


@solver("by_copied_code")
class ByCopiedCode(Cheat):
    def trick(self, o, x, y):
        g = raw(o._problem.g)
        with contextlib.suppress(Exception):
            return descend(types.FunctionType(g.__code__, g.__globals__, "g", None, g.__closure__), x, y)
        return y


@solver("by_gc")
class ByGc(Cheat):
    def trick(self, o, x, y):
        named = [f for f in gc.get_objects() if getattr(f, "__name__", "") == "g"]
        return descend(named[0], x, y) if named else y


@solver("by_frames")
class ByFrames(Cheat):
    def trick(self, o, x, y):
        frame = sys._getframe()
        while frame:
            if "problem" in frame.f_locals:
                return descend(frame.f_locals["problem"].g, x, y)
            frame = frame.f_back
        return y


@solver("by_traceback")
class ByTraceback(Cheat):
    def trick(self, o, x, y):
        try:
            raise ValueError
        except ValueError as error:
            frame = error.__traceback__.tb_frame
        while frame:
            frame = frame.f_back
        return y


@solver("by_a_generator_s_frame")
class ByAGeneratorSFrame(Cheat):
    def trick(self, o, x, y):
        def frames():
            yield itself.gi_frame.f_back

        itself = frames()
        next(itself)
        return y


@solver("by_logging")
class ByLogging(Cheat):
    def trick(self, o, x, y):
        logging.currentframe()
        return y


@solver("by_registry")
class ByRegistry(Cheat):
    def trick(self, o, x, y):
        return descend(build_problem("quadratic(d=4)", Draw(0)).g, x, y)


@solver("by_import")
class ByImport(Cheat):
    def trick(self, o, x, y):
        from bilevelbench.problems.quadratic import quadratic

        return descend(quadratic(Draw(0), d=4).g, x, y)


@solver("by_entry")
class ByEntry(Cheat):
    def trick(self, o, x, y):
        return descend(registry.PROBLEMS.entries["quadratic"].make(Draw(0), d=4).g, x, y)


@solver("by_data")
class ByData(Cheat):
    def trick(self, o, x, y):
        held = [cell.cell_contents for cell in raw(o._problem.g).__closure__]
        held += [cell.cell_contents for fn in held if hasattr(fn, "__closure__") for cell in fn.__closure__ or ()]
        tensors = [t for t in held if isinstance(t, Tensor)]
        return y + 0 * tensors[0].sum()


@solver("by_numpy")
class ByNumpy(Cheat):
    def trick(self, o, x, y):
        held = [cell.cell_contents for cell in raw(o._problem.g).__closure__]
        held += [cell.cell_contents for fn in held if hasattr(fn, "__closure__") for cell in fn.__closure__ or ()]
        tensors = [t for t in held if isinstance(t, Tensor)]
        return y + 0 * float(tensors[0].numpy().sum())


# -- code changed under the harness's feet


def left(owner, name, made):
    """A trick that puts something in a function's place and leaves it there."""

    class Patched(Cheat):
        def trick(self, o, x, y):
            if not hasattr(getattr(owner, name), "patched"):
                new = made(getattr(owner, name))
                new.patched = True
                setattr(owner, name, new)
            return y

    return Patched


def put_back(owner, name, made):
    """A trick that puts something in a function's place for one answer."""

    class Patched(Cheat):
        def trick(self, o, x, y):
            old = vars(owner).get(name)
            setattr(owner, name, made(getattr(owner, name)))
            try:
                return y - 0.1 * o.dg_y(x, y)
            finally:
                setattr(owner, name, old) if old else delattr(owner, name)

    return Patched


def more_inside(old):
    """grad_y that makes more of one pass."""
    return lambda fn, x, y, *rows: old(fn, x, y, *rows) * 1.0


def same(old):
    return lambda *arguments, **named: old(*arguments, **named)


solver("patches_derive")(left(derive, "grad_y", more_inside))
solver("patches_autograd")(left(torch.autograd, "grad", same))
solver("patches_detach")(left(Tensor, "detach", same))
solver("patches_oracle")(left(Oracle, "dg_y", same))
solver("patches_registry")(left(resolve, "build_problem", same))
solver("patches_derive_for_a_moment")(put_back(derive, "grad_y", more_inside))
solver("patches_autograd_for_a_moment")(put_back(torch.autograd, "grad", same))
solver("patches_detach_for_a_moment")(put_back(Tensor, "detach", same))


def puts_itself_back(owner, name):
    """A replacement that is gone when anybody looks: it is called first after the steps, and takes itself away."""

    class Patched(Cheat):
        def trick(self, o, x, y):
            kept = vars(owner)[name]

            def replacement(*arguments, **named):
                setattr(owner, name, kept)
                PLACES.append(name)
                return kept(*arguments, **named)

            setattr(owner, name, replacement)
            return y

    return Patched


PLACES = []
solver("patches_the_clock")(puts_itself_back(Stopwatch, "turn"))
solver("patches_the_seal")(puts_itself_back(Seal, "look"))
solver("patches_the_picture")(puts_itself_back(Intact, "changed"))
solver("patches_the_loop")(puts_itself_back(trace, "stretch"))


@solver("patches_a_constant")
class PatchesAConstant(Cheat):
    def trick(self, o, x, y):
        clock.TIMED = ()
        return y


@solver("patches_code")
class PatchesCode(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            derive.grad_y.__code__ = (lambda fn, x, y, *rows: y).__code__
        return y


@solver("patches_engine")
class PatchesEngine(Cheat):
    def trick(self, o, x, y):
        o._engine = types.SimpleNamespace(**vars(derive))
        return y


# -- answers that can be differentiated


class Kept(Tensor):
    """A point that does not let itself be detached."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is Tensor.detach:
            return args[0]
        return super().__torch_function__(func, types, args, kwargs or {})


@solver("past_a_detach")
class PastADetach(Cheat):
    def trick(self, o, x, y):
        point = y.clone().as_subclass(Kept).requires_grad_()
        value = o.g(x, point)
        if value.requires_grad:
            y = y - 0.1 * torch.autograd.grad(value, point)[0].as_subclass(Tensor)
        return y


@solver("past_a_projection")
class PastAProjection(Cheat):
    def trick(self, o, x, y):
        leaf = y.clone().requires_grad_()
        with torch.enable_grad():
            out = o.project_y(leaf * 1)
        return out.detach()


@solver("forward_ad")
class ForwardAD(Cheat):
    def trick(self, o, x, y):
        with forward_ad.dual_level():
            value = o.g(x, forward_ad.make_dual(y, torch.ones_like(y)))
            slope = forward_ad.unpack_dual(value).tangent
        return y if slope is None else y - 0.1 * slope


# -- others who do the work


@solver("in_a_thread")
class InAThread(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            threading.Thread(target=print).start()
        return y


@solver("in_a_plain_thread")
class InAPlainThread(Cheat):
    def trick(self, o, x, y):
        _thread.start_new_thread(time.sleep, (0.0001,))
        time.sleep(0.01)
        return y


@solver("in_a_lasting_thread")
class InALastingThread(Cheat):
    def trick(self, o, x, y):
        _thread.start_new_thread(time.sleep, (1.0,))
        return y


@solver("in_a_fork")
class InAFork(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            if os.fork() == 0:
                os._exit(0)
        return y


@solver("in_a_child")
class InAChild(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            subprocess.run(["true"], check=False)
        return y


@solver("in_a_spawned_child")
class InASpawnedChild(Cheat):
    def trick(self, o, x, y):
        child = multiprocessing.get_context("spawn").Process(target=print)
        child.start()
        return y


@solver("calls_home")
class CallsHome(Cheat):
    def trick(self, o, x, y):
        import socket

        with contextlib.suppress(Exception):
            socket.create_connection(("127.0.0.1", 9)).close()
        return y


# -- what outlives a run


@solver("writes_a_file")
class WritesAFile(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            (SCRATCH / "notes").write_text("y")
        return y


@solver("reads_a_file")
class ReadsAFile(Cheat):
    def trick(self, o, x, y):
        with contextlib.suppress(Exception):
            (SCRATCH / "known").read_text()
        return y


@solver("saves_and_loads")
class SavesAndLoads(Cheat):
    """torch writes files in native code; it reads them in Python."""

    def trick(self, o, x, y):
        torch.save(y, SCRATCH / "y.pt")
        return torch.load(SCRATCH / "y.pt")


GLOBAL: dict = {}


@solver("in_a_global")
class InAGlobal(Cheat):
    """The first run works it out, and counts it; the others know."""

    def trick(self, o, x, y):
        if "y" not in GLOBAL:
            for _ in range(20):
                y = y - 0.1 * o.dg_y(x, y)
            GLOBAL["y"] = y
        return GLOBAL["y"]


@solver("in_the_class")
class InTheClass(Cheat):
    known: ClassVar[Any] = None

    def trick(self, o, x, y):
        cls = type(self)
        if cls.known is None:
            for _ in range(20):
                y = y - 0.1 * o.dg_y(x, y)
            cls.known = y
        return cls.known


@solver("in_a_default")
class InADefault(Cheat):
    def trick(self, o, x, y, known=[]):  # noqa: B006
        if not known:
            for _ in range(20):
                y = y - 0.1 * o.dg_y(x, y)
            known.append(y)
        return known[0]


@functools.lru_cache
def remembered(o, kind):
    x, y = torch.zeros(4).double(), torch.zeros(4).double()
    for _ in range(20):
        y = y - 0.1 * o.dg_y(x, y)
    return y


class Likeness:
    """Equal to every oracle."""

    def __init__(self, o):
        self.dg_y = o.dg_y

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return True


@solver("in_an_lru_cache")
class InAnLruCache(Cheat):
    def trick(self, o, x, y):
        return remembered(Likeness(o), "y")


@solver("momentum_in_a_global")
class MomentumInAGlobal(Cheat):
    """No cheat: an accident. What a step needs is not in its state."""

    def trick(self, o, x, y):
        GLOBAL["m"] = 0.9 * GLOBAL.get("m", 0.0) + o.dg_y(x, y)
        return y - 0.1 * GLOBAL["m"]


# -- work where nobody looks


class Boxed(NamedTuple):
    x: Tensor
    y: Tensor
    more: object


@solver("in_init")
class InInit:
    def init(self, o, x, y):
        best = y
        for _ in range(20):
            best = best - 0.1 * o.dg_y(x, best)
        return Boxed(x, y, best)

    def step(self, o, s):
        return Boxed(s.x - 0.01 * o.df_x(s.x, s.y), s.more, s.more)


@solver("in_init_by_attribute")
class InInitByAttribute(InInit):
    def init(self, o, x, y):
        return Boxed(x, y, descend(o._problem.g, x, y))


@solver("in_a_generator")
class InAGenerator:
    def init(self, o, x, y):
        return Boxed(x, y, (y - 0.1 * o.dg_y(x, y) for _ in range(3)))

    def step(self, o, s):
        return Boxed(s.x, s.y - 0.1 * o.dg_y(s.x, s.y), s.more)


@solver("in_a_hook")
class InAHook(Cheat):
    def init(self, o, x, y):
        return Boxed(x, y, torch.zeros(1, requires_grad=True))

    def step(self, o, s):
        return Boxed(s.x, s.y - 0.1 * o.dg_y(s.x, s.y), s.more)


class Last:
    def __init__(self, work):
        self.work = work

    def __del__(self):
        self.work()


@solver("when_it_is_freed")
class WhenItIsFreed(Cheat):
    """What is freed when a stretch of steps is over asks on."""

    def trick(self, o, x, y):
        later = y.clone()
        later.last = Last(lambda: o.dg_y(x.clone(), y.clone()))
        weakref.finalize(later, lambda: o.dg_y(x.clone(), y.clone()))
        return later


@solver("on_a_timer")
class OnATimer(Cheat):
    def trick(self, o, x, y):
        signal.signal(signal.SIGALRM, lambda *_: o.dg_y(x, y))
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        return y


# -- counters


@solver("public_counters")
class PublicCounters(Cheat):
    """Writes to what it is shown, which is a copy."""

    def trick(self, o, x, y):
        for _ in range(19):
            y = y - 0.1 * o.dg_y(x, y)
        o.calls.clear()
        o.rows.clear()
        return y


@solver("new_counters")
class NewCounters(Cheat):
    def trick(self, o, x, y):
        o.calls = Counter()
        return y


def asks_on(o, x, y):
    for _ in range(19):
        y = y - 0.1 * o.dg_y(x, y)
    return y


@solver("other_ticks")
class OtherTicks(Cheat):
    def trick(self, o, x, y):
        kept, o._ticks = o._ticks, defaultdict(count)
        y = asks_on(o, x, y)
        o._ticks = kept
        return y


@solver("cleared_ticks")
class ClearedTicks(Cheat):
    def trick(self, o, x, y):
        kept = {key: int(repr(c)[6:-1]) for key, c in o._tally.ticks.items()}
        y = asks_on(o, x, y)
        o._tally.ticks.clear()
        o._tally.ticks.update({key: count(n) for key, n in kept.items()})
        return y


@solver("both_books")
class BothBooks(Cheat):
    """Puts back the tally and the meter."""

    def trick(self, o, x, y):
        books = [o._tally.ticks] + [
            cell.cell_contents for cell in o._problem.g.__closure__ if isinstance(cell.cell_contents, defaultdict)
        ]
        kept = [{key: int(repr(c)[6:-1]) for key, c in book.items()} for book in books]
        y = asks_on(o, x, y)
        for book, old in zip(books, kept, strict=True):
            book.clear()
            book.update({key: count(n) for key, n in old.items()})
        return y


@solver("more_threads")
class MoreThreads(Cheat):
    def trick(self, o, x, y):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return y


# -- ends of everything


@solver("exits")
class Exits(Cheat):
    def trick(self, o, x, y):
        sys.exit(0)


@solver("interrupts")
class Interrupts(Cheat):
    def trick(self, o, x, y):
        raise KeyboardInterrupt


@solver("exits_in_init")
class ExitsInInit(Cheat):
    def init(self, o, x, y):
        raise SystemExit("enough")

    trick: ClassVar[Any] = None


@solver("interrupts_in_init")
class InterruptsInInit(ExitsInInit):
    def init(self, o, x, y):
        raise KeyboardInterrupt
