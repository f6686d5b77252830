"""References: the best Phi known of a problem instance whose least value has no closed form.

Each is an upper bound on the least Phi, found by an exact method in a search of its own (``measure.reference``), never
in a run that is compared. Those of the shipped problems come with the package, a line each; one's own are files in the
folder ``references`` of the results, and come first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from . import files
from .shapes import Number
from .sights import close
from .text import clean

FOLDER, SUFFIX = "references", ".json"
SHIPPED = resources.files("bilevelbench.suites") / "references.jsonl"
MOST = 2**20  # bytes of a file of one's own
Positive = Annotated[float, Meta(ge=0, le=1e300)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The best Phi known of an instance, and how it was had.

    problem, version: as in ``RunKey``, every knob spelled out. seed: None where the seed changes nothing.
    phi: an upper bound on the least Phi, known up to phi_error. grad_phi, grad_phi_error: the norm of the true
    hypergradient there, of those variables that no bound holds; None where it cannot be had.
    ended: "settled" where the search could not lower Phi any further, "budget" where its gradients were spent.
    starts: points from which Phi was descended. budget, gradients: of g, allowed and spent; an answer of a closed form
    counts as one. local: what y* means, where argmin g(x, .) may have more points than one.
    source: digest of the problem's file. drawn, numbers: of what was seen, as in a header's digest.
    """

    problem: str
    version: Whole
    seed: Whole | None
    phi: Number
    phi_error: Positive
    grad_phi: Positive | None
    grad_phi_error: Positive | None
    ended: str
    starts: Whole
    budget: Whole
    gradients: Whole
    method: str
    local: str = ""
    date: str = ""
    bilevelbench: str = ""
    source: str = ""
    drawn: str = ""
    numbers: list[Number] = []

    @property
    def how(self) -> str:
        """How it was had, in a clause."""
        norm = "" if self.grad_phi is None else f", |grad Phi| {self.grad_phi:.1e}"
        ended = "" if self.ended == "settled" else ", when its budget was spent"
        local = " (y* is local)" if self.local else ""
        starts = f"{self.starts} start{'s' if self.starts != 1 else ''}"
        said = f"{self.method} from {starts}, {self.gradients} gradients of g{norm}{ended}{local}; an upper bound"
        return clean(said)

    @property
    def key(self) -> tuple[str, int]:
        """What it is looked up by, beside the seed."""
        return self.problem, self.version

    @property
    def name(self) -> str:
        """What its file is called."""
        return file_name(self.problem, self.version, self.seed)

    def is_of(self, seen: dict[str, Any]) -> bool:
        """Whether a run that saw this (a header's digest) saw the same problem. What is not said is not held against
        it."""
        drawn, numbers = seen.get("drawn") or "", tuple(seen.get("numbers") or ())
        if drawn and self.drawn and drawn != self.drawn:
            return False
        return not numbers or not self.numbers or close(numbers, tuple(self.numbers))


def file_name(problem: str, version: int, seed: int | None) -> str:
    """What the file of a reference is called: readable, and one for each instance."""
    digest = hashlib.sha256(f"{problem} {version}".encode(errors="backslashreplace")).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r".*[/\\]", "", problem.partition("(")[0])).lstrip(".")
    return f"{readable[:60]}-{'any' if seed is None else f's{seed}'}-{digest}{SUFFIX}"


def dumps(reference: Reference) -> str:
    """A reference as one line of JSON, in the order of its fields."""
    return msgspec.json.encode(reference).decode()


def loads(text: str | bytes) -> Reference:
    """The reference in a line. ``ValueError`` with the reason where there is none."""
    try:
        return msgspec.json.decode(text, type=Reference)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def shipped() -> list[Reference]:
    """Those that come with the package."""
    return [loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines() if line]


def write(out: Path, reference: Reference) -> Path:
    """Keep a reference below a results folder, in place of an earlier one of its instance. The path."""
    folder = out / FOLDER
    files.make_folder(folder)
    path = folder / reference.name
    with files.written(path) as private:
        private.write_text(dumps(reference) + "\n", encoding="utf-8")
    return path


def kept(out: Path, problem: str, version: int, seed: int | None) -> Reference | None:
    """The reference of an instance below a results folder; None where there is none that can be read."""
    try:
        return loads(files.content(out / FOLDER / file_name(problem, version, seed), MOST)[1])
    except (files.Unreadable, ValueError):
        return None


def read(folder: Path) -> tuple[list[Reference], list[str]]:
    """One's own references below a results folder and its sub-folders, and a sentence for each file that is none."""
    found, troubles = [], []
    for path in files.beneath(folder, FOLDER, SUFFIX):
        try:
            found.append(loads(files.content(path, MOST)[1]))
        except (files.Unreadable, ValueError) as error:
            troubles.append(f"{path} is no reference: {clean(str(error))}")
    return found, troubles


class Known:
    """The references that hold for the runs of some results folders."""

    def __init__(self, own: Iterable[Reference]) -> None:
        self._tables = [_table(own), _table(shipped())]  # one's own come first

    @classmethod
    def below(cls, folders: Sequence[Path]) -> tuple[Known, list[str]]:
        """Those below results folders, and a sentence for each file that is none."""
        both = [read(folder) for folder in folders]
        return cls(one for own, _ in both for one in own), [said for _, troubles in both for said in troubles]

    def of(self, header: dict[str, Any]) -> tuple[float, str]:
        """(reference, how it was had) of a run; (NaN, why) where there is none that holds, and where Phi* is known."""
        problem, key, why = header["problem"], header["key"], ""
        if problem.get("phi_star") is not None:
            return float("nan"), ""
        version = key.get("problem_version", 1)
        for table in self._tables:
            for seed in (key["seed"], None):
                for one in table.get((key["problem"], version, seed), ()):
                    if one.is_of(problem.get("digest") or {}):
                        return one.phi, one.how
                    why = "none that holds: the one that is known saw another problem at this seed"
        return float("nan"), why


def _table(references: Iterable[Reference]) -> dict[tuple[str, int, int | None], list[Reference]]:
    """By instance, the least first: of upper bounds it is the best."""
    table: dict[tuple[str, int, int | None], list[Reference]] = {}
    for one in sorted(references, key=lambda one: one.phi):
        table.setdefault((*one.key, one.seed), []).append(one)
    return table
