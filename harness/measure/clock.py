"""A stopwatch that waits for the device before each reading, and books every second to somebody.

At every moment exactly one account is open, so what is booked sums to the time that passed: nothing leaks. A check of
the clock itself times work of known cost.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

INIT, STEPS, JUDGE, OVERHEAD, COMPILE = "init", "steps", "judge", "overhead", "compile"
TIMED = (INIT, STEPS)  # the solver's own


def drain(device: str) -> Callable[[], None]:
    """What waits until the device has done all that it was given. The CPU does its work before it returns."""
    if torch.device(device).type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


class Stopwatch:
    """Wall seconds and process CPU seconds by account, from now on.

    ``seconds`` and ``cpu_seconds`` are the solver's: its ``init``, and steps between ``start`` and ``stop``. What is in
    no ``account`` is overhead: building rows, writing files. ``tell`` hears of every account that is opened, while none
    of the solver's is open: before the reading where one opens, after it where one has closed.
    """

    def __init__(
        self,
        wait: Callable[[], None],
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
        tell: Callable[[str], None] = lambda account: None,
    ) -> None:
        self._wait, self._wall, self._cpu, self._tell = wait, wall, cpu, tell
        self.accounts: defaultdict[str, float] = defaultdict(float)
        self._cpu_accounts: defaultdict[str, float] = defaultdict(float)
        self._open = OVERHEAD
        self._since = (wall(), cpu())

    def turn(self, account: str) -> None:
        """Close the open account and open another. What the device still has to do belongs to the one that closes."""
        if account in TIMED:
            self._tell(account)
        self._wait()
        now = (self._wall(), self._cpu())
        self.accounts[self._open] += now[0] - self._since[0]
        self._cpu_accounts[self._open] += now[1] - self._since[1]
        self._open, self._since = account, now
        if account not in TIMED:
            self._tell(account)

    def start(self) -> None:
        """Begin a stretch of steps."""
        self.turn(STEPS)

    def stop(self) -> None:
        """End the stretch of steps."""
        self.turn(OVERHEAD)

    @contextmanager
    def account(self, name: str) -> Iterator[None]:
        """Book what happens inside to an account, also where it raises."""
        before = self._open
        self.turn(name)
        try:
            yield
        finally:
            self.turn(before)

    @property
    def seconds(self) -> float:
        """Wall seconds of init and steps."""
        return sum(self.accounts[name] for name in TIMED)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of init and steps."""
        return sum(self._cpu_accounts[name] for name in TIMED)


KNOWN = 0.02  # seconds of work of known cost
TIMES = 7  # that known work is done
KERNELS = 20  # on CUDA: so many that launching them takes a small part of doing them


@functools.lru_cache
def self_check(device: str) -> dict[str, Any]:
    """Time work of known cost, once per process: ``ok``, and what was read, in seconds.

    A sleep (wall, hardly any CPU time) and a busy wait (both) of 0.02 s, each reading held between two readings of
    another clock, inside and outside. On CUDA also kernels that spin for a known number of cycles: the reading must be
    no less than what the device's own events say, which it is only when the device was waited for.
    """
    slept, busy = _timed(_sleep), _timed(_spin)
    found: dict[str, Any] = {
        "known": KNOWN, "slept": slept["wall"], "slept_cpu": slept["cpu"],
        "busy": busy["wall"], "busy_cpu": busy["cpu"],
        "ok": slept["held"] and busy["held"] and slept["cpu"] < KNOWN / 2 and 0.9 * KNOWN <= busy["cpu"] < 2 * KNOWN,
    }  # fmt: skip
    if torch.device(device).type == "cuda":
        found |= _kernels(device)
        found["ok"] = found["ok"] and found["kernels"] >= 0.98 * found["kernels_by_events"]
    return found


def work_seconds() -> float:
    """CPU seconds of known work, matrix products and plain Python, the least of several: how fast this machine is.

    It says whether seconds of two machines of one description may stand beside each other (``store.machines``).
    """
    matrix = torch.linspace(0.0, 1.0, 160 * 160, dtype=torch.float64).reshape(160, 160)
    best = float("inf")
    for _ in range(TIMES):
        begin = time.process_time()
        for _ in range(4):
            torch.mm(matrix, matrix)
        sum(k * k for k in range(20_000))
        best = min(best, time.process_time() - begin)
    return best


def _sleep() -> None:
    time.sleep(KNOWN)


def _spin() -> None:
    end = time.process_time() + KNOWN
    while time.process_time() < end:
        pass


def _timed(work: Callable[[], None]) -> dict[str, Any]:
    watch = Stopwatch(lambda: None)
    outside = time.monotonic()
    watch.start()
    inside = time.monotonic()
    work()
    inside = time.monotonic() - inside
    watch.stop()
    outside = time.monotonic() - outside
    held = max(KNOWN, inside) <= watch.seconds + 1e-4 and watch.seconds <= outside + 1e-4
    return {"wall": watch.seconds, "cpu": watch.cpu_seconds, "held": held}


def _kernels(device: str) -> dict[str, float]:
    """Spinning kernels: what the stopwatch reads, what the device's events say, what launching them took."""
    spin: Any = torch.cuda._sleep  # untyped
    event: Any = torch.cuda.Event
    spin(1000)  # the first launch loads the kernel
    watch = Stopwatch(drain(device))
    first, last = (event(enable_timing=True) for _ in range(2))
    watch.start()
    begin = time.perf_counter()
    first.record()
    for _ in range(KERNELS):
        spin(2_000_000)
    last.record()
    launched = time.perf_counter() - begin
    watch.stop()
    return {"kernels": watch.seconds, "kernels_by_events": first.elapsed_time(last) / 1e3, "kernels_launched": launched}
