"""Solvers that fail in every way a solver can, as a loose file for tests of the harness."""

import faulthandler
import os
import signal
import time

import torch

from bilevelbench import Oracle, Point, solver


class Counting:
    """One honest step of alternating descent, then, from the third step on, the fault."""

    def step(self, o: Oracle, s: Point) -> Point:
        x, y = s
        y = y - 0.1 * o.dg_y(x, y)
        x = x - 0.1 * o.df_x(x, y)
        if o._step >= 2:
            x = self.fault(x)
        return Point(x, y)


@solver("honest")
class Honest(Counting):
    def fault(self, x):
        return x


@solver("raises")
class Raises(Counting):
    def fault(self, x):
        raise RuntimeError("the solver's own <mistake>")


@solver("turns_nan")
class TurnsNan(Counting):
    def fault(self, x):
        return x * float("nan")


@solver("hangs")
class Hangs(Counting):
    def fault(self, x):
        time.sleep(3600)
        return x


@solver("crashes")
class Crashes(Counting):
    def fault(self, x):
        faulthandler.disable()
        faulthandler._sigsegv()
        return x


@solver("hogs")
class Hogs(Counting):
    def fault(self, x):
        return x + torch.empty(2**46, dtype=torch.uint8).sum()


@solver("is_killed")
class IsKilled(Counting):
    def fault(self, x):
        os.kill(os.getpid(), signal.SIGKILL)
        return x


@solver("grows")
class Grows(Counting):
    def fault(self, x):
        return torch.cat([x, x])


@solver("keeps_graph")
class KeepsGraph(Counting):
    def fault(self, x):
        return x.requires_grad_()


@solver("slow")
class Slow(Counting):
    def fault(self, x):
        time.sleep(0.2)
        return x
