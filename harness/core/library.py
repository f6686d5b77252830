"""Another library's hypergradient as a solver: the library runs in an environment and a process of its own.

It asks for f and g, and their derivatives, through a pipe, and the oracle answers: all is counted and nothing goes past
it. So the library's packages need not fit ours. Memory of the other process is not measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from .errors import RequestError, Unsupported
from .header import interpreter, told
from .oracle import Oracle
from .solver import Point

SERVED = Path(__file__).with_name("served.py")
WAIT = 'read go || exit; exec "$@"'  # nothing is started before it is needed


class Served:
    """The process that has the library. It is there from the start, for a solver at work may begin none, and idle."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise RequestError(f"there is no file {file}")
        self.file, self._begun = file, False
        command = [*interpreter(file.read_text("utf-8"), file), str(SERVED), str(file)]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 as long as the process
        self._process = subprocess.Popen(
            ["sh", "-c", WAIT, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            text=True, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._of = self._process.stdin, self._process.stdout

    def hypergradient(self, o: Oracle, x: Tensor, y: Tensor) -> Tensor:
        """What the library answers at (x, y), all its questions answered by the oracle."""
        if not self._begun:
            self._begun = True
            self._to.write("go\n")
        self._tell({"x": x.tolist(), "y": y.tolist(), "dtype": str(x.dtype)[6:]})
        while True:
            line = self._of.readline()
            if not line:
                self._said.seek(0)
                raise Unsupported(f"{self.file.name} cannot be run: {told(self._said.read())}")
            asked = json.loads(line)
            if "failed" in asked:
                raise RuntimeError(f"{self.file.name}: {asked['failed']}")
            if "answer" in asked:
                return torch.tensor(asked["answer"], dtype=x.dtype, device=x.device)
            question, points = ANSWERS[asked["ask"]], (torch.tensor(p, dtype=x.dtype, device=x.device)
                                                       for p in asked["at"])  # fmt: skip
            found = question(o, *points)
            self._tell([part.tolist() for part in (found if isinstance(found, tuple) else (found,))])

    def _tell(self, what: Any) -> None:
        try:
            self._to.write(json.dumps(what) + "\n")
            self._to.flush()
        except BrokenPipeError:
            pass  # it has ended, and what it said is read where it should have answered


ANSWERS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "f": lambda o, x, y: o.f(x, y), "df": lambda o, x, y: o.df(x, y),
    "g": lambda o, x, y: o.g(x, y), "dg_x": lambda o, x, y: o.dg_x(x, y), "dg_y": lambda o, x, y: o.dg_y(x, y),
    "d2g_xy": lambda o, x, y, v: o.d2g_xy(x, y, v), "d2g_yy": lambda o, x, y, v: o.d2g_yy(x, y, v),
    "d2g_yx": lambda o, x, y, u: o.d2g_yx(x, y, u),
}  # fmt: skip


@dataclass(frozen=True)
class Library:
    """A solver that takes T gradient steps of size ``lr_inner`` on y and then one of size ``lr`` on x, along the
    hypergradient of another library.

    Inherit it under ``@solver("name")`` and say ``file: ClassVar[str] = "name.py"``, next to the solver's own file: a
    file with ``hypergradient(f, g, x, y)``, as ``bilevelbench examine`` takes, of tensors of torch. Packages that its
    PEP 723 header names are installed by uv, in an environment of its own. Raises RequestError where there is no such
    file; where the packages cannot be had the run is ``unsupported``.
    """

    lr: float = 1e-2  # step on x
    lr_inner: float = 1e-1  # step on y
    T: int = 10  # steps on y

    file: ClassVar[str] = ""
    _served: ClassVar[Served]
    order = 2

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "_served" not in vars(cls):
            here = Path(str(sys.modules[cls.__module__].__file__))
            cls._served = Served(here.with_name(cls.file))

    def step(self, o: Oracle, s: Point) -> Point:
        """T steps on y, the library's hypergradient there, a step on x, all asked of the oracle ``o``."""
        x, y = s.x, s.y
        for _ in range(self.T):
            y = o.project_y(y - self.lr_inner * o.dg_y(x, y))
        return Point(o.project_x(x - self.lr * self._served.hypergradient(o, x, y)), y)
