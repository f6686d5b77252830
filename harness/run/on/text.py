"""A run as a text that travels, with the definitions that it needs; and the run again, where the code is the same.

Nothing that is in such a text is believed: whoever makes the run looks its names up by itself and compares the keys.
"""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import DEFINITION, parse
from bilevelbench.measure.env import source_digest
from bilevelbench.store.schema import RunKey

from ..child import ForkServer, Interpreters
from ..elsewhere import Elsewhere
from ..job import Job, Named, Sent

KEPT = ("problem", "solver", "suite", "command", "timeout", "keep", "tuned")  # of a job


class Refused(RequestError):
    """A run that this machine must not make, with the reason."""


def text_of(job: Job) -> str:
    """The run as one line of JSON."""
    sent = []
    if job.sent:  # of a plan of a hundred thousand runs most carry none
        named = {("problem", parse(job.problem).name), ("solver", parse(job.solver).name)}
        sent = [
            [kind, name, Path(path).name, base64.b64encode(Path(path).read_bytes()).decode()]
            for kind, name, path in job.sent if (kind, name) in named
        ]  # fmt: skip
    said = {name: getattr(job, name) for name in KEPT}
    return json.dumps({"digest": job.key.digest, "key": job.key.as_json(), **said, "sent": sent})


class Reader:
    """Makes runs of texts. ``definitions``: a folder for those that the texts carry.

    ``patience``: seconds for looking a name up.
    """

    def __init__(self, processes: ForkServer | Interpreters, definitions: Path, patience: float) -> None:
        self._processes, self._definitions, self._patience = processes, definitions, patience
        self._asked: dict[Sent, Elsewhere] = {}
        self.machine = self._ask(())

    def job(self, text: str, folder: Path) -> Job:
        """The run, to be made into a folder. ``Refused`` where it would be another one here."""
        said = json.loads(text)
        try:
            key, sent = RunKey(**said["key"]), self._unpacked(said["sent"])
            msgspec.convert(key.as_json(), RunKey)  # each field is what it has to be
            kept = {name: said[name] for name in KEPT}
        except (TypeError, KeyError, msgspec.ValidationError) as error:
            raise Refused(
                f"{platform.node()} cannot read the run ({type(error).__name__}: {error}): another version of "
                "bilevelbench has asked for it; install that one there"
            ) from None
        ask = self._ask(sent)
        if key.device != "cpu":
            self.machine.device = ask.device = key.device
        solver = _looked_up(ask, "solver", said["solver"], 0)
        problem = _looked_up(ask, "problem", said["problem"], key.seed)
        own = replace(
            key, problem=problem.spec, problem_version=problem.version, solver=solver.spec,
            code=source_digest(problem.file, solver.file),
        )  # fmt: skip
        if own.digest != said["digest"]:
            raise Refused(_difference(key, own, said))
        fields = kept | {"keep": tuple(said["keep"]), "sent": sent}
        return Job(key, path=folder / f"{key.stem}.jsonl", place=self.machine.place(), **fields)

    def _ask(self, sent: Sent) -> Elsewhere:
        if sent not in self._asked:
            self._asked[sent] = Elsewhere(self._processes, self._patience, sent)
        return self._asked[sent]

    def _unpacked(self, sent: list[list[str]]) -> Sent:
        found = []
        for kind, name, file, data in sent:
            path = self._definitions / Path(file).name  # a digest of what is in it is in its name
            if path.suffix != DEFINITION:
                raise Refused(f"{file} is no definition")
            if not path.exists():
                path.write_bytes(base64.b64decode(data))
            found.append((kind, name, str(path)))
        return tuple(found)


def _looked_up(ask: Callable[[str, str, int], Named], kind: str, text: str, seed: int) -> Named:
    try:
        return ask(kind, text, seed)
    except RequestError as error:
        raise Refused(f"{platform.node()} cannot make the run: {error}") from None


def _difference(asked: RunKey, own: RunKey, said: dict[str, Any]) -> str:
    pairs = (("problem", asked.problem, own.problem), ("solver", asked.solver, own.solver),
             ("version of the problem", asked.problem_version, own.problem_version))  # fmt: skip
    other = [f"its {what} is {theirs}, here {ours}" for what, theirs, ours in pairs if theirs != ours]
    files = f"the source of bilevelbench, of {said['problem']} or of {said['solver']} differs"
    return (
        f"{platform.node()} has other code than where the run was asked for ({'; '.join(other) or files}); "
        "install the same bilevelbench and the same files there"
    )
