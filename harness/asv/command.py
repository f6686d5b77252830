"""The commands of this folder, `python -m bilevelbench.asv.NAME`: a wrong request is one sentence and exit code 2."""

import sys
from collections.abc import Callable

from bilevelbench.core.errors import RequestError


def obeyed(main: Callable[[], None]) -> None:
    """Do what a command says."""
    try:
        main()
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
