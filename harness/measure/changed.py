"""Which files of a manifest are no longer what a run read."""

from __future__ import annotations

from collections.abc import Mapping

from .manifest import ABSENT
from .stamps import hash_now

TOLD = 64  # manifests that are held


class Files:
    """Files as they are now: each is looked at once."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._told: dict[tuple[int, bool], tuple[Mapping[str, str], list[str]]] = {}

    def changed(self, manifest: Mapping[str, str], elsewhere: bool = False) -> list[str]:
        """See ``changed``. Runs of one process share their manifest, and what was told of it is told again."""
        of, told = self._told.get((id(manifest), elsewhere), ({}, []))
        if of is not manifest:
            for path in manifest:
                if path not in self._now:
                    self._now[path] = hash_now(path, ABSENT)
            pairs = [(path, was, self._now[path]) for path, was in manifest.items()]
            told = [path for path, was, now in pairs if now != was and not (elsewhere and now == ABSENT)]
            if len(self._told) >= TOLD:
                self._told.clear()
            self._told[id(manifest), elsewhere] = manifest, told
        return told


def changed(manifest: Mapping[str, str], elsewhere: bool = False) -> list[str]:
    """The files of a manifest that are no longer what they were; nothing is imported. Empty: the run still stands.

    A file that is missing has changed, so has every file of a checkout that moved. ``elsewhere``: the manifest was
    made on another machine, and only what is found here under the same path is compared.
    """
    return Files().changed(manifest, elsewhere)
