"""Handing runs out: each is claimed in the results folder, had made by an executor, and published there.

The folder is the truth. An executor may lose what it likes: a run that is lost is handed out again, a few times, and
what came of it otherwise is on disk before it is told. No executor needs to see the folder.
"""

from __future__ import annotations

import base64
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bilevelbench.core.errors import RequestError
from bilevelbench.measure.env import now
from bilevelbench.store import files, points
from bilevelbench.store.claims import Claim, Claims
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import End, Header

from .. import supervise
from ..drive import AGAIN
from ..job import Job
from ..passes import last_row
from .executor import Answer, Executor
from .text import Refused, text_of

TRIES = 8  # of a run that is lost: more than on one machine, for on many whole workers are taken away
MOST_FREE = 100  # runs in turn that come back as they went, for a disk is full or a scheduler gone


class Hand:
    """Hands runs out. ``started`` and ``finished`` are told as runs begin and end."""

    def __init__(
        self, out: Path, executor: Executor, started: Callable[[Job], None], finished: Callable[[Job, str], None]
    ) -> None:
        self._out, self._executor, self._started, self._finished = out, executor, started, finished
        self._tries: dict[str, int] = {}
        self._free = 0  # times in turn that runs came back because of machines
        self._under_way: dict[str, tuple[Job, Claim]] = {}

    def run(self, jobs: list[Job]) -> None:
        """Have all runs made. Interrupting stops at once; what is finished is on disk.

        ``RequestError`` where a worker refuses one, or nothing can be written.
        """
        waiting = deque(jobs)
        try:
            with Claims(self._out) as claims:
                while waiting or self._under_way:
                    for _ in range(min(self._executor.room, len(waiting))):
                        self._begin(claims, waiting)
                    for digest, answer in self._executor.ended(AGAIN):
                        self._ended(digest, answer)
        except OSError as error:
            raise RequestError(
                f"out {self._out} cannot be written ({error.strerror}); what is finished is there, and the same "
                "command goes on when it can"
            ) from None
        finally:
            self._executor.close()

    def _begin(self, claims: Claims, waiting: deque[Job]) -> None:
        """Hand out the next run, unless it has been made, or is being made, by another command."""
        job = waiting.popleft()
        claim = None if job.satisfied() else claims.take(job.key.stem)
        if job.satisfied():
            self._close(job, claim)
        elif claim is None:
            waiting.append(job)
        else:
            self._started(job)
            self._under_way[job.key.digest] = job, claim
            self._executor.start(job.key.digest, text_of(job))

    def _ended(self, digest: str, answer: Answer) -> None:
        if digest not in self._under_way:  # lost, made again, and come after all
            return
        job, claim = self._under_way[digest]
        if "refused" in answer:
            raise Refused(answer["refused"])
        name = _name(job, answer.get("record", ""))
        self._free = 0 if name else self._free + bool(answer.get("free"))
        if self._free > MOST_FREE:
            raise RequestError(f"no run can be made any more: {answer.get('lost')}; what is finished is in {self._out}")
        self._tries[digest] = tries = self._tries.get(digest, 0) + (not answer.get("free"))
        if name:
            self._publish(job, claim, name, answer)
        elif tries < TRIES:
            self._executor.start(digest, text_of(job))
            return
        else:
            self._lost(job, claim, str(answer.get("lost", "what came back was no record of it")))
        del self._under_way[digest]
        self._close(job, claim)

    def _publish(self, job: Job, claim: Claim, name: str, answer: Answer) -> None:
        with files.written(claim.part(name)) as private, private.open("r+b") as file:
            file.write(answer["record"].encode())
            file.flush()
            os.fsync(file.fileno())
        if "points" in answer:
            with files.written(points.beside(self._out / name)) as private:
                private.write_bytes(base64.b64decode(answer["points"]))
        claim.publish(name, job.replaced())

    def _lost(self, job: Job, claim: Claim, reason: str) -> None:
        with Journal(claim.part(job.name)) as journal:
            given = {"given": job.problem}, {"given": job.solver}
            journal.begin(Header(job.key, *given, {"place": job.place}, job.suite, job.command, now(), job.timeout))
            journal.append(last_row({}, supervise.End("lost", reason, "machine")))
            journal.end(End(TRIES))
        claim.publish(job.name, job.replaced())

    def _close(self, job: Job, claim: Claim | None) -> None:
        if claim is not None:
            claim.release()
        self._finished(job, read(next(iter(job.finished()), job.path)).status)


def _name(job: Job, record: str) -> str:
    """What the file of a record is called, after the machine that made it; '' where it is no whole record."""
    first, _, rest = record.partition("\n")
    try:
        header = json.loads(first)
        place, digest = header["environment"]["place"], header["digest"]
    except (ValueError, TypeError, KeyError):
        return ""
    whole = digest == job.key.digest and record.endswith("\n") and '{"kind":"end"' in rest
    return files.final_name(job.key, place) if whole and isinstance(place, str) and place.isalnum() else ""
