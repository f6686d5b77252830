"""The one run-maker of all executors but this machine's own: a process with texts of runs in, and answers out.

A line in is a run (``text``). A line out is JSON: ``record``, the text of its file, and ``points``, in base64, where it
keeps some; or ``refused``, a sentence; or ``lost``, a sentence: nothing is wrong with the run, and it may be made
elsewhere (with ``free``: it was not lost while it was made). The process leaves when its input
closes, and what it was making goes with it: nobody wants it any more.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import queue
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bilevelbench.store import points
from bilevelbench.store.journal import read

from .. import child
from ..drive import Driver
from ..supervise import OTHERS
from .text import Reader, Refused

PAUSE = 5.0  # seconds after which a machine that is in trouble says so


class Maker:
    """Makes one run after the other in a private folder, by the driver that makes them on this machine."""

    def __init__(self, processes: child.ForkServer | child.Interpreters, folder: Path, patience: float) -> None:
        self._folder = folder / "runs"
        self._folder.mkdir()
        self._reader = Reader(processes, folder, patience)
        self._driver = Driver(
            self._folder, processes, self._reader.machine.environment, 1, lambda job: None, lambda job, status: None,
            patience,
        )  # fmt: skip

    def answer(self, text: str) -> dict[str, Any]:
        """What came of a run."""
        try:
            job = self._reader.job(text, self._folder)
            self._driver.run([job])
            path = self._folder / job.name
            record = read(path)
            if record.status == "lost":  # somebody kills what is started here: it may be made elsewhere
                return {"lost": f"{platform.node()}: {record.rows[-1]['reason']}"}
            found: dict[str, Any] = {"record": path.read_text(encoding="utf-8")}
            if job.keep and points.beside(path).exists():
                found["points"] = base64.b64encode(points.beside(path).read_bytes()).decode()
            return found
        except Refused as error:
            return {"refused": str(error)}
        except Exception as error:  # a full disk, say: this machine's trouble, and not the run's
            time.sleep(PAUSE)  # or whoever hands out runs would have none but this one to hand them to
            return {"lost": f"{platform.node()}: {type(error).__name__}: {error}", "free": True}
        finally:
            for path in self._folder.iterdir():
                path.unlink(missing_ok=True)


def main() -> None:
    """The process. Whatever else is printed goes where errors go."""
    mouth = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    texts: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(texts,), daemon=True).start()
    patience = float(sys.argv[1]) if len(sys.argv) > 1 else OTHERS
    with child.processes() as processes, tempfile.TemporaryDirectory(prefix="bilevelbench-") as folder:
        maker = Maker(processes, Path(folder), patience)
        while True:
            mouth.write(json.dumps(maker.answer(texts.get())) + "\n")
            mouth.flush()


def _listen(texts: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        texts.put(line)
    os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread, whatever it waits for


if __name__ == "__main__":
    main()
