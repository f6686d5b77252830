"""Registries: names for solvers and problems. Registration is by being in the folder.

``@solver("name")`` and ``@problem("name")`` register. Modules of ``bilevelbench.solvers`` and ``bilevelbench.problems``
are imported on the first look-up, then other packages' entry points (groups of the same names). A loose file is
registered by naming it: ``path/to/file.py`` or, where it holds several, ``path/to/file.py:name``. What a notebook has
made comes to another process as a file of pickled bytes, see ``definition``.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import declared, definition
from .errors import PluginWarning, RequestError
from .problem import Problem
from .solver import ATTRIBUTES, Point, check_attributes, check_fields
from .spec import DEFINITION, Spec, suggest

T = TypeVar("T")


@dataclass
class Entry:
    """One registered thing: what makes it, the file that its source is in, and the failure that a problem shows."""

    name: str
    make: Callable[..., Any]
    doc: str
    file: Path
    version: int = 1
    shows: str = ""
    family: str = ""


class Registry:
    """Names of one kind (``solver`` or ``problem``)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}
        self.defined: dict[str, Path] = {}  # files of definitions, by name; read when they are looked up
        self.broken: dict[str, str] = {}  # plug-ins that could not be loaded, by module, and why, in a sentence
        self._loaded = 0  # 1: those of this package, 2: those of others

    def add(self, entry: Entry) -> None:
        """Register; a second registration of a name by another file is an error."""
        old = self.entries.get(entry.name)
        again = old is not None and not old.file.is_file() and not entry.file.is_file()  # a cell that is run once more
        if old is not None and old.file != entry.file and not again:
            raise RequestError(f"the {self.kind} {entry.name!r} is registered twice: in {old.file} and in {entry.file}")
        if not entry.name.isidentifier():
            raise RequestError(f"the {self.kind} name {entry.name!r} is not valid; use letters, digits and '_'")
        self.entries[entry.name] = entry

    def load_own(self) -> None:
        """Import the folder's modules, once."""
        if self._loaded < 1:
            self._loaded = 1
            package = importlib.import_module(f"bilevelbench.{self.kind}s")
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")

    def load(self) -> None:
        """Import the folder's modules and other packages' entry points, once."""
        self.load_own()
        if self._loaded < 2:
            self._loaded = 2
            for point in importlib.metadata.entry_points(group=f"bilevelbench.{self.kind}s"):
                self._load_plugin(point)

    def _load_plugin(self, point: importlib.metadata.EntryPoint) -> None:
        try:
            point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # one that exits, too, takes nothing else along
            package = f" of the package {point.dist.name}" if point.dist else ""
            words = str(error) if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
            said = f"the plug-in {point.value}{package} cannot be loaded ({words}); the rest works"
            self.broken[point.module] = str(RequestError(said))
            warnings.warn(self.broken[point.module], PluginWarning, stacklevel=4)

    def names(self) -> list[str]:
        """All names, sorted."""
        self.load()
        return sorted(self.entries)

    def entry(self, spec: Spec) -> Entry:
        """The entry a spec names, or a ``RequestError`` with the nearest names."""
        self.load_own()
        if not spec.file and spec.name in self.defined:
            spec = spec._replace(file=str(self.defined[spec.name]))
        if spec.name not in self.entries or spec.file:
            self.load()
        if spec.file:
            return self._from_file(spec)
        if spec.name in self.entries:
            return self.entries[spec.name]
        lost = "".join(f"; {said}" for said in self.broken.values())  # it may have been in one of these
        raise RequestError(f"there is no {self.kind} {spec.name!r}; {suggest(spec.name, self.entries)}{lost}")

    def _from_file(self, spec: Spec) -> Entry:
        path = Path(spec.file).resolve()
        found = [e for e in self.entries.values() if e.file == path]
        if not found:
            load_file(path)
            found = [e for e in self.entries.values() if e.file == path]
        if not found:
            raise RequestError(f"{spec.file} registers no {self.kind}; it needs a @{self.kind}('name') definition")
        chosen = [e for e in found if e.name == spec.name or (not spec.name and len(found) == 1)]
        if not chosen:
            names = ", ".join(sorted(e.name for e in found))
            raise RequestError(f"{spec.file} registers {names}; name one of them as {spec.file}:NAME")
        return chosen[0]


SOLVERS = Registry("solver")
PROBLEMS = Registry("problem")


def load_file(path: Path) -> None:
    """Import a loose file under a name of its own. What it raises is one sentence."""
    if not path.is_file():
        raise RequestError(f"there is no file {path}")
    try:
        if path.suffix == DEFINITION:
            _load_definition(path)
        else:
            _load_module(path)
    except RequestError:
        raise
    except SyntaxError as error:
        raise RequestError(f"{path}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise RequestError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def _load_module(path: Path) -> None:
    name = f"bilevelbench_loose_{path.stem}_{abs(hash(str(path)))}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    module_spec.loader.exec_module(module)


def _load_definition(path: Path) -> None:
    """Whoever sent it has seen to it that the name is free, so whatever has it now has it from the same source."""
    told, make = definition.read(path)
    registry = SOLVERS if told["kind"] == "solver" else PROBLEMS
    said = {name: told[name] for name in ("name", "doc", "version", "shows", "family")}
    registry.entries[told["name"]] = Entry(make=make, file=path, **said)


def solver(name: str) -> Callable[[type[T]], type[T]]:
    """Register a class as the solver ``name`` and make it a frozen dataclass of hyper-parameters.

    The class has ``step(self, o, s) -> state`` and, where its state is more than a ``Point``, ``init(self, o, x, y)``.
    Fields are typed hyper-parameters with defaults; ``Outer`` brings those of the step on x. Class attributes, without
    annotation, are described in ``core.solver.Solver``; ``at_least`` gives lower bounds of fields.

    Raises
    ------
    RequestError
        For a name that is taken or no identifier, a knob without type or default, or a ``step`` that cannot be called
        as step(self, o, s), with its file and line.
    """

    def register(cls: type[T]) -> type[T]:
        declared.check_solver(name, cls)
        cls.declares = declared.said(cls)  # type: ignore[attr-defined]
        for attribute, default in ATTRIBUTES.items():
            if not hasattr(cls, attribute):
                setattr(cls, attribute, default)
        if not hasattr(cls, "init"):
            cls.init = lambda self, o, x, y: Point(x, y)  # type: ignore[attr-defined]
        cls.name = name  # type: ignore[attr-defined]
        cls.__post_init__ = check_fields  # type: ignore[attr-defined]
        made = dataclasses.dataclass(frozen=True)(cls)
        check_attributes(made())  # the defaults must be valid, too
        SOLVERS.add(Entry(name, made, inspect.getdoc(cls) or "", declared.file_of(cls)))
        return made

    return register


def problem(
    name: str, version: int = 1, shows: str = "", family: str = ""
) -> Callable[[Callable[..., Problem]], Callable[..., Problem]]:
    """Register a function ``(rng: Draw, **knobs) -> Problem``.

    Parameters
    ----------
    name
        Letters, digits and ``_``.
    version
        To be raised whenever its numbers change: old results are then not compared with new ones.
    shows
        The failure of solvers that the problem exposes, one short clause.
    family
        The kind of problem that it is one of; families weigh alike in a comparison, and one that names none is a family
        by itself.

    Raises
    ------
    RequestError
        For a name that is taken or no identifier, a function without a first argument for the ``Draw``, or a knob
        without type or default, with its file and line.
    """

    def register(build: Callable[..., Problem]) -> Callable[..., Problem]:
        declared.check_problem(name, build)
        file = Path(inspect.getfile(build)).resolve()
        PROBLEMS.add(Entry(name, build, inspect.getdoc(build) or "", file, version, shows, family))
        return build

    return register
