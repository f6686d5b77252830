"""``python -m bilevelbench``."""

from .cli import main

main()
