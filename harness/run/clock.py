"""A stopwatch that waits for the device before each reading."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def drain(device: str) -> Callable[[], None]:
    """What waits until the device has done all that it was given. The CPU does its work before it returns."""
    if torch.device(device).type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


class Stopwatch:
    """Seconds and process CPU seconds between ``start`` and ``stop``, summed over all stretches."""

    def __init__(
        self,
        wait: Callable[[], None],
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._wait, self._wall, self._cpu = wait, wall, cpu
        self._since = (0.0, 0.0)
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def start(self) -> None:
        """Begin a stretch."""
        self._wait()
        self._since = (self._wall(), self._cpu())

    def stop(self) -> None:
        """End the stretch and add it."""
        self._wait()
        self.seconds += self._wall() - self._since[0]
        self.cpu_seconds += self._cpu() - self._since[1]
