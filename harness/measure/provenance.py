"""Which files a run is held to: not Python's own, not an installed package's, not those of solvers that it did not run.

It is imported before anything foreign is, and does without torch.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import platformdirs

from bilevelbench.core.spec import DEFINITION

HOME = Path(__file__).resolve().parents[1]  # harness/, or bilevelbench/ where a wheel is installed
ROOMS = ("core", "measure", "run", "data")  # of ours, those that a run executes
SYSTEM = (
    "/proc/", "/sys/", "/etc/", "/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/",
    "/usr/share/fonts/", "/usr/share/locale/", "/usr/share/mime/", "/usr/share/zoneinfo/",
)  # fmt: skip


def is_foreign(path: str) -> bool:
    """Whether a file belongs neither to Python or an installed distribution nor to the system."""
    folder = os.path.dirname(path)
    parts = folder.split(os.sep)
    return not (
        _is_installed(folder)
        or path.startswith(SYSTEM)
        or any(part.endswith((".egg-info", ".dist-info")) for part in parts)
        or os.path.basename(path) == "pyvenv.cfg"
    )


@functools.lru_cache
def roots() -> tuple[str, ...]:
    """Folders of the standard library, of installed distributions and of their scripts, each with its real path."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")]
    paths += [os.path.join(prefix, "bin") for prefix in (sys.base_prefix, sys.prefix)]
    paths.append(os.path.join(sys.base_prefix, "lib"))
    paths += [*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(os.__file__)]
    paths += filter(_holds_distributions, sys.path)
    found = {os.path.abspath(path) for path in paths} | {os.path.realpath(path) for path in paths}
    return tuple(sorted(path.rstrip(os.sep) + os.sep for path in found))


def _holds_distributions(path: str) -> bool:
    """An environment on top of another one, or what ``pip install --target`` has filled; never where we are.

    A folder that holds a module of nobody's beside them is somebody's own: an edit there must not go unseen.
    """
    try:
        names = os.listdir(path) if path and os.path.realpath(path) != os.getcwd() else []
    except OSError:
        return False
    if not any(name.endswith(".dist-info") for name in names):
        return False
    if os.path.basename(path.rstrip(os.sep)) in ("site-packages", "dist-packages"):
        return True
    known = {file.parts[0] for found in importlib.metadata.distributions(path=[path]) for file in found.files or ()}
    modules = (name for name in names if name.endswith(".py") or os.path.isdir(os.path.join(path, name)))
    return all(name in known or name in ("bin", "__pycache__") for name in modules)


@functools.lru_cache(maxsize=4096)
def _is_installed(folder: str) -> bool:
    """A folder that is linked into site-packages from elsewhere is code of one's own, like an editable install."""
    return (folder + os.sep).startswith(roots()) and (os.path.realpath(folder) + os.sep).startswith(roots())


def source_of(path: str) -> str:
    """The source of compiled bytes, where there is one; any other path as it is."""
    if f"{os.sep}__pycache__{os.sep}" in path and path.endswith(".pyc"):
        source = importlib.util.source_from_cache(path)
        return source if os.path.exists(source) else path
    return path


def loaded(*packages: str) -> Iterator[str]:
    """Sources of the foreign modules in ``sys.modules``, and of all modules below these folders."""
    below = tuple(package + os.sep for package in packages)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or name in ("__main__", "__mp_main__"):
            continue
        path = source_of(os.path.abspath(file))
        if (is_foreign(path) or path.startswith(below or ("\0",))) and os.path.isfile(path):
            yield path


def package_of(path: Path) -> str:
    """The folder of the installed package that a file belongs to; '' for a foreign file, one of ours, or a lone one."""
    place = str(path.resolve())
    if is_foreign(place) or path.resolve().is_relative_to(HOME):
        return ""
    root = max((root for root in roots() if place.startswith(root)), key=len, default="")
    top, inside, _ = place.removeprefix(root).partition(os.sep)
    return root + top if inside else ""


def counts(path: str, own: Collection[Path]) -> bool:
    """Whether a foreign file, or one of the run's own packages, is held against a run.

    Of ours the rooms that a run executes, of the solvers and problems in our folders the run's own and the shared
    pieces. What torch and JAX compiled for themselves does not count, nor what was made from data and is kept under a
    digest of them, nor the lock file that the header is made from, nor a definition, a digest of which is in the run's
    key.
    """
    place = Path(os.path.realpath(path))
    if place.suffix == DEFINITION:
        return False
    if place in {file.resolve() for file in own}:
        return True
    if place.parent in _shipped():
        return place.name.startswith("_") and not place.name.startswith("__")
    if place.is_relative_to(HOME):
        return place.relative_to(HOME).parts[0] in ROOMS
    compiled = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    kept = [*map(os.environ.get, compiled), cache_root() / "made"]
    if any(folder and place.is_relative_to(os.path.realpath(folder)) for folder in kept):
        return False
    temporary = os.path.join(os.path.realpath(tempfile.gettempdir()), "torchinductor_")
    return place != HOME.parent / "uv.lock" and not str(place).startswith(temporary)


def cache_root() -> Path:
    """Where data are kept (see ``data.cache``)."""
    return Path(os.environ.get("BILEVELBENCH_CACHE") or platformdirs.user_cache_dir("bilevelbench"))


@functools.lru_cache
def _shipped() -> tuple[Path, ...]:
    """The folders of solvers and problems."""
    specs = [importlib.util.find_spec(f"bilevelbench.{name}") for name in ("solvers", "problems")]
    return tuple(Path(place).resolve() for spec in specs if spec for place in spec.submodule_search_locations or [])
