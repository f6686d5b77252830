"""Anybody's hypergradient against known answers: the file runs in an environment of its own, as it asks for one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from bilevelbench.core.errors import RequestError
from bilevelbench.core.header import interpreter, told

PROBE = Path(__file__).with_name("probe")
SECONDS = 600.0  # after which a library that does not come to an end is given up
GONE = 10.0  # seconds in which the system ends a process that was killed


class Seen(NamedTuple):
    """One observation of ``examine``.

    Parameters
    ----------
    what
        What was looked at.
    text
        What was found, in words.
    fine
        Whether that is as it should be.
    """

    what: str
    text: str
    fine: bool


def examine(file: str | os.PathLike[str]) -> list[Seen]:
    """What the ``hypergradient(f, g, x, y)`` of a file answers on quadratics with known answers.

    f and g are functions of two flat tensors, x and y leaves that require gradients; the answer has the shape of x. The
    file may ask for packages in a PEP 723 header; it then runs by uv in an environment that has them. With
    ``ARRAYS = "jax"`` in it x, y and the answer are arrays of jax, which f and g take, too.

    Parameters
    ----------
    file
        The Python file.

    Returns
    -------
    list of Seen
        What was looked at, in order; ``[one for one in examine(file) if not one.fine]`` is what is wrong.

    Raises
    ------
    RequestError
        Where the file cannot be run, or a package not be installed.
    """
    if not isinstance(file, str | os.PathLike):
        raise RequestError(f"file={file!r} is not valid; file takes a path, such as 'my_hypergradient.py'")
    path = Path(file).resolve()
    if not path.is_file():
        raise RequestError(f"there is no file {file}")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} cannot be read: {error}") from None
    if not re.search(
        r"^(def hypergradient\(|hypergradient\s*=|from .* import .*\bhypergradient\b)", text, re.MULTILINE
    ):
        raise RequestError(f"{file} has no function hypergradient(f, g, x, y)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seen.json"
        command = [*interpreter(text, os.fspath(file)), str(PROBE), str(path), str(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder) as run:
            try:
                said = run.communicate(timeout=SECONDS)[1]
            except subprocess.TimeoutExpired:
                started = psutil.Process(run.pid)
                whole = [*started.children(recursive=True), started]  # what uv has started, too
                for process in whole:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(whole, GONE)
                raise RequestError(f"{file} does not come to an end within {SECONDS:g} s") from None
        if not out.is_file():
            raise RequestError(f"{file} cannot be run: {told(said)}")
        return [Seen(one["what"], one["text"], one["fine"]) for one in json.loads(out.read_text("utf-8"))]
