"""All observations of a file, as JSON. What a library raises is an observation."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def main(file: str, out: str) -> None:
    """Examine FILE, write OUT."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from probe import PARTS, through_jax  # type: ignore[import-not-found]  # as itself: bilevelbench may not be there

    # Not this folder and the one above, whose modules have names that others may have, too: the file's own.
    sys.path[:2] = [str(Path(file).resolve().parent)]
    spec = importlib.util.spec_from_file_location("examined", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = through_jax(module.hypergradient) if getattr(module, "ARRAYS", "") == "jax" else module.hypergradient
    found: list[dict[str, Any]] = []
    for part in PARTS:
        try:
            found += part(asked)
        except (Exception, SystemExit) as error:  # also what ends its process, as command-line tools do
            text = (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:200]
            found.append({"what": part.__name__, "text": text, "fine": False})
    with open(out, "w", encoding="utf-8") as place:
        json.dump(found, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
