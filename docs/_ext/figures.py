"""The gallery shows what an example calls ``figure``."""

from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst


def scraper(block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Save the figure that a block has made, and show it."""
    figure = variables["example_globals"].pop("figure", None)
    if figure is None:
        return ""
    path = next(variables["image_path_iterator"])
    figure.write(Path(path)) if hasattr(figure, "write") else figure.savefig(path, dpi=150)
    return str(figure_rst([path], conf["src_dir"]))
