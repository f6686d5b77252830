"""Runs made by a Dask cluster: a task for each, done by a child of the worker. No scheduler or worker needs torch.

Dask keeps nothing, and does not have to. A worker that dies costs the runs that it was making; a scheduler that is
started again costs those under way, which are handed out again as soon as it answers.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Iterator
from typing import Any, cast

from bilevelbench.core.errors import RequestError

from .executor import Answer, make

REACH = 20.0  # seconds in which a scheduler has to answer
AWAY = 300.0  # seconds for which one that has answered may be away
AHEAD = 2  # runs that a thread has, the one under way included: the next one is there when it ends


class Dask:
    """A cluster. ``address``: of its scheduler (``tcp://host:8786``), or ``dask`` for one on this machine, of
    ``workers`` processes."""

    def __init__(self, address: str, workers: int, patience: float = 600.0) -> None:
        try:
            import distributed
        except ImportError:
            raise RequestError("on dask needs another package: pip install 'bilevelbench[dask]'") from None
        self._patience, self._distributed = patience, cast(Any, distributed)  # it has no types
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it says is said here, in a sentence
        self._cluster: Any = None
        if address == "dask":
            self._cluster = self._distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
            )
            address = self._cluster.scheduler_address
        self._address, self._under_way = address, dict[str, Any]()
        self._answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._client: Any = self._reach(REACH)
        self._looked, self._threads = 0.0, 0

    def _reach(self, seconds: float) -> Any:
        """A client of the scheduler. ``RequestError`` where it does not answer."""
        try:
            return self._distributed.Client(self._address, timeout=seconds, set_as_default=False)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise RequestError(
                f"on {self._address}: no Dask scheduler answers there ({said[0][:120]}); what is finished is on disk; "
                "start one with `dask scheduler`, or say on dask"
            ) from None

    @property
    def room(self) -> int:
        """How many more runs it wants now: those for which there are threads, and as many that wait there."""
        if time.monotonic() > self._looked + 2.0:
            self._looked, self._threads = time.monotonic(), sum(self._client.nthreads().values())
        return max(0, AHEAD * max(1, self._threads) - len(self._under_way))

    def start(self, key: str, text: str) -> None:
        """Have a run made. It is no pure function: one that was lost is made anew."""
        future = self._client.submit(make, text, self._patience, pure=False, retries=0)
        self._under_way[key] = future
        future.add_done_callback(lambda done: self._answers.put((key, done)))

    def ended(self, seconds: float) -> Iterator[tuple[str, Answer]]:
        """The runs that have ended since; waits at most so long for one."""
        if self._client.status != "running":  # its scheduler is gone, and all that it knew
            yield from self._again()
            return
        with contextlib.suppress(queue.Empty):
            key, future = self._answers.get(timeout=seconds)
            while True:  # what is told here twice, since it was handed out again, is no longer under way
                if future is self._under_way.get(key):
                    del self._under_way[key]
                    yield key, self._answer(future)
                key, future = self._answers.get_nowait()

    def _answer(self, future: Any) -> Answer:
        try:
            return dict(future.result(timeout=30))
        except ImportError as error:
            return {"refused": f"a worker of {self._address} cannot import {error.name}; install bilevelbench there"}
        except Exception as error:  # killed with its worker; or forgotten by its scheduler, which says nothing of it
            return {"lost": f"{type(error).__name__}: {error}"[:300], "free": bool(future.cancelled())}

    def _again(self) -> Iterator[tuple[str, Answer]]:
        """Wait for the scheduler, and tell what was lost with it."""
        lost, self._under_way = list(self._under_way), {}
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)
        end = time.monotonic() + AWAY
        while True:
            try:
                self._client = self._reach(5.0)
                break
            except RequestError:
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)
        yield from ((key, {"lost": "the scheduler went away", "free": True}) for key in lost)

    def close(self) -> None:
        """Give up what is under way."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._under_way.values()))
        for one in (self._client, self._cluster):
            with contextlib.suppress(Exception):
                one.close(timeout=10)
