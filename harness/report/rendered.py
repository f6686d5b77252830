"""Pages out of templates: one way for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bilevelbench.store.files import written


def render(path: Path, template: str, facts: Mapping[str, Any]) -> None:
    """Write a page, whole or not at all. What facts say is text, never markup; a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bilevelbench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["prose"] = prose
    text = environment.get_template(template).render(facts)
    with written(path) as private:
        private.write_text(text, encoding="utf-8")


def prose(text: str) -> Markup:
    """A sentence with what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
