"""The documentation site: `make docs` builds it into build/docs, without a network.

The source folder is the root of the repository, so a link between two files means the same on the
site and in a file browser. Pages that are made from the code are written first, into docs/_site:
one per command, from its help, and the reference, from the docstrings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import pages  # noqa: E402

import synthbench  # noqa: E402

project = "synthbench"
author = "the synthbench developers"
copyright = author
version = release = synthbench.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/README"
include_patterns = [
    "*.md", "docs/**", "leaderboards/*/README.md", "leaderboards/*/details.md",
]  # fmt: skip
exclude_patterns = [
    ".*", "build", "demo", "runs", "tests", "synthbench", "studies", "generators", "metrics",
    "docs/site", "docs/examples",
]  # fmt: skip

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]
nitpicky = False

napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = f"synthbench {version}"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": ["docs/examples"],
    "gallery_dirs": ["docs/_site/examples"],
    "filename_pattern": ".*",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),
    "parallel": 2,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 60,
    "write_computation_times": False,  # its table loads from other hosts
    "within_subsection_order": "FileNameSortKey",
}

CONTENTS = "\n".join(
    ["", "```{toctree}", ":hidden:", "", *(f"_site/{name}" for name in pages.ORDER), "```", ""]
)


def add_contents(app: Any, name: str, source: list[str]) -> None:
    """Add the sections to the index, where the site's navigation takes them from."""
    if name == root_doc:
        source[0] += CONTENTS


def setup(app: Any) -> None:
    """Register what this site adds to Sphinx."""
    pages.write_all(ROOT)
    app.connect("source-read", add_contents)
