"""Who makes a run: one maker at a time, however many drivers, on however many machines, share a results folder.

A claim is a file ``.claim-{stem}.{generation}`` that holds its owner's token. The owner is the highest generation. One
whose maker is gone is not stolen: the next generation succeeds it, and only one can make that file. The rows of a run
go into a private file, which a link publishes: the first wins. So a maker that was taken for gone and wakes up late
changes nothing.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import time
from pathlib import Path
from types import TracebackType

from . import files
from .heartbeat import BEAT, PATIENCE, Heartbeat, sweep
from .journal import Record

PREFIX = ".claim-"
_NAME = re.compile(r"\.claim-(.+)\.(\d{1,9})")
FRESH = 1.0  # seconds for which a look at the folder is believed, where nothing depends on it
LINK = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class Claims:
    """The claims of one driver on one results folder. It is alive until it is closed, or its process is gone."""

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder = folder
        self._heart = Heartbeat(folder, beat, patience)
        self.token = self._heart.token
        self._held: dict[str, Claim] = {}
        self._looked: tuple[float, dict[str, set[int]]] | None = None

    def take(self, stem: str) -> Claim | None:
        """Claim the run whose key has this stem. None where a maker has it that is alive as far as is known: ask again
        later. Whoever gets it looks again for the final file, which the maker before may have left."""
        there = self._look().get(stem, set())
        if any(not os.path.lexists(self._path(stem, generation)) for generation in there):
            there = self._look(anew=True).get(stem, set())
        judged = {self._token(stem, generation) for generation in there}
        gone = [self._heart.gone(token) for token in judged]  # each is looked at, so that its minute begins
        if stem in self._held or not all(gone):
            return None
        generation = max(there, default=-1) + 1
        path = self._path(stem, generation)
        try:
            handle = files.create(path)
        except FileExistsError:
            self._looked = None
            return None
        with os.fdopen(handle, "w") as file:
            file.write(self.token)
        # In the meantime: a claim may have been given back, and the generations have begun anew.
        self._looked = None
        now = self._look().get(stem, set())
        if max(now, default=-1) != generation or not {self._token(stem, g) for g in now} <= judged | {self.token}:
            path.unlink(missing_ok=True)
            return None
        self._held[stem] = claim = Claim(self, stem, generation)
        return claim

    def close(self) -> None:
        """Give back every claim, and take away what makers of this machine that are no more have left."""
        for claim in list(self._held.values()):
            claim.release()
        gone = sweep(self.folder)
        for stem, generations in self._look(anew=True).items():
            for generation in generations:
                if self._token(stem, generation) in gone:
                    self._path(stem, generation).unlink(missing_ok=True)
        self._heart.close()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _look(self, anew: bool = False) -> dict[str, set[int]]:
        """The claims in the folder, by stem and generation."""
        now = time.monotonic()
        if anew or self._looked is None or now - self._looked[0] > FRESH:
            found: dict[str, set[int]] = {}
            for name in os.listdir(self.folder):
                if name.startswith(PREFIX) and (match := _NAME.fullmatch(name)):
                    found.setdefault(match[1], set()).add(int(match[2]))
            self._looked = now, found
        return self._looked[1]

    def _path(self, stem: str, generation: int) -> Path:
        return self.folder / f"{PREFIX}{stem}.{generation}"

    def _token(self, stem: str, generation: int) -> str:
        """Whose a claim is; '' where that cannot be said, which stands for a maker without a heartbeat."""
        try:
            text = files.content(self._path(stem, generation), 256)[1].decode("ascii")
        except (files.Unreadable, UnicodeDecodeError):
            return ""
        return text if re.fullmatch("[0-9a-f]{16}", text) else ""


class Claim:
    """The right to make one run."""

    def __init__(self, claims: Claims, stem: str, generation: int) -> None:
        self.stem = stem
        self._claims, self._generation = claims, generation

    def part(self, name: str) -> Path:
        """The private file for the rows of the run that will be called ``name``."""
        return self._claims.folder / f"{name.removesuffix(files.FINAL)}.{self._claims.token}{files.PART}"

    def publish(self, name: str, instead: Record | None = None) -> bool:
        """Give the private file its final name. False where another has it, or where the claim was succeeded; then the
        private file is dropped.

        ``instead``: the outdated record that was read under this name, which alone is replaced.
        """
        part, final, aside = self.part(name), self._claims.folder / name, None
        won = self.owned()
        if won and instead is not None and instead.path.name == name:
            aside = final.with_name(f"{name.removesuffix(files.FINAL)}.{self._claims.token}.old{files.FINAL}")
            won = _set_aside(final, aside, instead.mark)
        won = won and _publish(part, final)
        for path in (part, aside):
            if path is not None:
                path.unlink(missing_ok=True)
        if won:  # what earlier makers have left of this run
            for other in self._claims.folder.glob(f"{glob.escape(name.removesuffix(files.FINAL))}.*{files.PART}"):
                other.unlink(missing_ok=True)
        return won

    def owned(self) -> bool:
        """Whether nobody has succeeded this claim."""
        claims = self._claims
        there = claims._look(anew=True).get(self.stem, set())
        return max(there, default=-1) == self._generation and claims._token(self.stem, self._generation) == claims.token

    def release(self) -> None:
        """Give the claim back."""
        claims = self._claims
        if claims._held.pop(self.stem, None) is not self:
            return
        for generation in sorted(claims._look(anew=True).get(self.stem, set())):  # its own last
            if generation < self._generation or (
                generation == self._generation and claims._token(self.stem, generation) == claims.token
            ):
                claims._path(self.stem, generation).unlink(missing_ok=True)
        claims._looked = None


def _publish(part: Path, final: Path) -> bool:
    """Give a file its final name, where nothing has it."""
    try:
        os.link(part, final, **LINK)
    except FileNotFoundError:  # a successor has cleared it away
        return False
    except FileExistsError:  # on a network the answer to a first try may have been lost
        return files.is_plain(final) and os.path.samefile(part, final)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _publish_without_links(part, final)
    return True


def _publish_without_links(part: Path, final: Path) -> bool:
    """The same on file systems that know no links: whoever makes the file may fill it, and whoever has the claim after
    one that was killed in between."""
    try:
        os.close(files.create(final))
    except FileExistsError:
        if not files.is_plain(final) or final.stat().st_size:
            return False
    os.replace(part, final)
    return True


def _set_aside(final: Path, aside: Path, mark: tuple[int, ...]) -> bool:
    """Take the final file away where it is still the one with the mark; any other is put back. Aside it is a final file
    as before, so that whatever is killed in between loses nothing."""
    try:
        os.rename(final, aside)
    except FileNotFoundError:
        return True
    if files.mark(aside) == mark:
        return True
    _publish(aside, final)
    return False
