"""A plan in a results folder: which runs are to be there. Any process, on any scheduler, can join in making them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from bilevelbench.core.errors import RequestError
from bilevelbench.store import files

from ..job import Job
from .text import text_of

SUFFIX = ".plan"


def write(out: Path, jobs: list[Job]) -> Path:
    """Put a plan into the folder, beside those of other commands."""
    lines = [text_of(job) for job in jobs]
    digest = hashlib.sha256("\n".join(sorted(job.key.digest for job in jobs)).encode()).hexdigest()[:16]
    path = out / f"{digest}{SUFFIX}"
    with files.written(path) as private:
        private.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


class Line(msgspec.Struct):
    """What is read of a line of a plan while nobody makes its run."""

    digest: str


LINE = msgspec.json.Decoder(Line)


def texts(folder: Path) -> dict[str, str]:
    """The runs of all plans of a folder as texts, by the digest of their key; none where there is no plan."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            lines = files.content(path)[1].decode().splitlines()
            found |= {LINE.decode(line).digest: line for line in lines}
        except (files.Unreadable, ValueError, RecursionError) as error:
            raise RequestError(
                f"plan {path} cannot be read ({error}); the command that wrote it writes it again"
            ) from None
    return found


def joined(folder: Path, job: Callable[[str, Path], Job]) -> list[Job]:
    """The runs of a folder's plans. ``job``: ``text.Reader.job``, which refuses where the code is another."""
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder} to join; name the one that was given to `run` as out")
    found = texts(folder)
    if not found:
        raise RequestError(f"{folder} holds no plan to join; put one there with `bilevelbench run --on folder`")
    return [job(text, folder) for text in found.values()]
