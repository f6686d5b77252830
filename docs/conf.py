"""How the documentation is built, without the internet:

uv run --group docs sphinx-build -W --keep-going docs docs/_build/html
"""

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `bilevelbench` is
os.environ["BILEVELBENCH_DOCS"] = str(HERE)  # the pages run elsewhere, and use files of this folder
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

project, author = "bilevelbench", "The bilevelbench developers"
copyright = f"2026, {author}"
version = release = installed("bilevelbench")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
    "catalogue",
    "docstrings",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "_templates", "examples", "generated/*.ipynb", "gallery/*.ipynb", "gallery/*.py"]

autosummary_generate = True
autodoc_typehints = "none"  # they stand in the signature
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

smartquotes = False  # y'Ay, and 'plain' is a value
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("figures.scraper",),
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,  # a page that loads scripts from hosts of others
    "abort_on_example_error": True,
}

html_theme = "pydata_sphinx_theme"
html_title = f"bilevelbench {release}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
ALONE = "tutorial", "first_figure", "compare", "problem", "report", "gates", "method", "columns", "records", "cite"
html_sidebars = {page: [] for page in ALONE}  # no pages below them, nothing to show beside
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "header_links_before_dropdown": 10,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
